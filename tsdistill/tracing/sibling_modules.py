"""Modules that no input runs, called beside a module like them, on the arguments that this one gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import Inputs, guarded, judged
from tsdistill.runtime.nests import tensors


@dataclass(frozen=True, eq=False)
class CompanionCall:
    """One call of a companion.

    Attributes:
        module: the module behind which it was called.
        companion: its own name.
        module_output: output of that module.
        output: output of the companion.
    """

    module: str
    companion: str
    module_output: Any
    output: Any


def run_with_companions(
    model: nn.Module, inputs: Inputs, companions: Mapping[str, tuple[str, ...]]
) -> tuple[list[torch.Tensor], list[CompanionCall]]:
    """All tensors of the model's output, in order, and the calls of the companions.

    Args:
        model: the model.
        inputs: what it is called on.
        companions: module -> those that are called behind its first call, on its arguments.

    Raises:
        TsdistillError: the model's forward fails.
    """
    calls: dict[str, list[CompanionCall]] = {}

    def call_companions(call: ModuleCall) -> None:
        if call.name not in calls:
            own = calls[call.name] = []
            for other in companions[call.name]:
                output = model.get_submodule(other)(*call.args, **call.kwargs)
                own.append(CompanionCall(call.name, other, call.output, output))

    with ModuleHooks({name: model.get_submodule(name) for name in companions}, after=call_companions):
        output = guarded(model, inputs)
    return tensors(judged(output)), [call for own in calls.values() for call in own]


def run_all(
    model: nn.Module, inputs: Inputs, companions: Mapping[str, tuple[str, ...]]
) -> list[torch.Tensor]:
    """All tensors that the model and then the companions give, in order.

    Raises:
        TsdistillError: the model's forward fails.
    """
    outputs, calls = run_with_companions(model, inputs, companions)
    return [*outputs, *tensors([call.output for call in calls])]
