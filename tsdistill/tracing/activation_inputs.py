"""What layers are given is an activation, also where the model's input had no part in it."""

from __future__ import annotations

import torch
from torch import nn

from tsdistill.models.layers.layer_kind import is_norm, kind_of
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.torch_private import is_batched
from tsdistill.tracing.trace_record import Contraction
from tsdistill.tracing.tracer import Tracer


def inputs_of_layers(model: nn.Module, tracer: Tracer) -> ModuleHooks:
    """Mark what layers of ``model`` are given as data, inside the block.

    Learnt constants, queries and latents go through layers like any activation. Their nodes can leave: the
    parameter is the layer that writes them.
    """

    def mark(call: ModuleCall) -> None:
        kind, inputs = kind_of(call.module), (*call.args, *call.kwargs.values())
        channel_dim = -1 if kind is None else kind.channel_dim
        for x in inputs if kind is None else inputs[:1]:
            if not isinstance(x, torch.Tensor) or is_batched(x):
                continue
            if not x.is_floating_point() or tracer.is_data(x):
                continue
            labels = tracer.labels(x)[channel_dim] if x.ndim >= abs(channel_dim) + (channel_dim > 0) else None
            tracer.mark_input(x, known=True)
            if labels is not None and tracer.of_parameter(labels):
                tracer.contractions.append(Contraction(call.name, "constant", None, None, labels))

    layers = {
        name: module
        for name, module in model.named_modules()
        if kind_of(module) is not None or is_norm(module) or isinstance(module, nn.MultiheadAttention)
    }
    return ModuleHooks(layers, before=mark)
