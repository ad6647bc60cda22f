"""What modules are called with when a model runs on its example input."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import mapped


@dataclass(frozen=True, eq=False)
class RecordedCall:
    """The first call of a module: ``module(*args, **kwargs)``."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def input(self) -> Tensor | None:
        """The first argument, where it is a tensor of numbers."""
        first = self.args[0] if self.args else self.kwargs.get("input")
        first = first.data if isinstance(first, PackedSequence) else first
        return first if isinstance(first, Tensor) and first.is_floating_point() else None

    def on(self, x: Tensor) -> RecordedCall:
        """The same call with another first argument (of packed sequences, with other values)."""
        if self.args:
            packed = isinstance(self.args[0], PackedSequence)
            first = self.args[0]._replace(data=x) if packed else x
            return replace(self, args=(first, *self.args[1:]))
        return replace(self, kwargs={**self.kwargs, "input": x})


def recorded_calls(model: nn.Module, names: Collection[str], example: Any) -> dict[str, RecordedCall]:
    """The first call of each of the modules ``names``, in one run of ``model`` on ``example``.

    Args:
        model: the model; it is left as it was.
        names: dotted names of modules.
        example: an input of batch 1.

    Returns:
        module -> its call; the tensors are copies. A module that does not run is missing.

    Raises:
        TsdistillError: the forward fails.
    """
    calls: dict[str, RecordedCall] = {}
    if not names:
        return calls

    def record(call: ModuleCall) -> None:
        if call.name not in calls:
            copies = mapped((call.args, call.kwargs), lambda tensor: tensor.detach().clone())
            calls[call.name] = RecordedCall(*copies)

    modules = dict(model.named_modules())
    with (
        ModuleHooks({name: modules[name] for name in names}, before=record),
        evaluation_mode(model),
        torch.no_grad(),
    ):
        forward(model, example)
    return calls
