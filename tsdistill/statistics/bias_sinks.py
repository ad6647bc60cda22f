"""Where a reading layer can put a constant: its own bias, or the running mean of the batch norm behind it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.models.layers.layer_kind import batch_norms
from tsdistill.runtime.calls import Calls
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import evaluation_mode


def following_norms(model: nn.Module, names: Collection[str], example: Any) -> dict[str, str]:
    """Layers whose output goes to one batch norm and nowhere else, found by running the model once.

    Args:
        model: the model.
        names: dotted names of the layers in question.
        example: an input of batch 1.

    Returns:
        layer name -> name of its batch norm, which keeps running statistics and has no other input.
    """
    modules = dict(model.named_modules())
    norms = batch_norms(model)
    outputs: dict[str, list[Tensor]] = {}
    inputs: dict[str, list[Tensor]] = {}
    calls = Calls()

    def record_output(call: ModuleCall) -> None:
        if isinstance(call.output, Tensor):
            outputs.setdefault(call.name, []).append(call.output)

    def record_input(call: ModuleCall) -> None:
        inputs.setdefault(call.name, []).append(call.args[0])

    layers = ModuleHooks({name: modules[name] for name in names if name in modules}, after=record_output)
    with layers, ModuleHooks(norms, before=record_input), evaluation_mode(model), torch.no_grad(), calls:
        forward(model, example)
    source = {id(own[0]): name for name, own in outputs.items() if len(own) == 1}
    result = {}
    for name, took in inputs.items():
        layer = source.get(id(took[0]))
        users = [call for call in calls.calls if any(tensor is took[0] for tensor in call.tensors())]
        if len(took) == 1 and layer is not None and len(users) == 1:
            result[layer] = name
    return result
