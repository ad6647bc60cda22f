"""What layers are given is an activation, also where the model's input had no part in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from tsdistill.models.layers.layer_kind import kind_of
from tsdistill.tracing.trace_record import Contraction
from tsdistill.tracing.tracer import Tracer

_OTHERS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.MultiheadAttention, nn.RNNBase)
"""Layers, beside those of `kind_of`, whose input is an activation."""


@contextmanager
def inputs_of_layers(model: nn.Module, tracer: Tracer) -> Iterator[None]:
    """Mark what layers of ``model`` are given as data, inside the block.

    Learnt constants, queries and latents go through layers like any activation. Their nodes can leave: the
    parameter is the layer that writes them.
    """
    handles: list[Any] = []
    for name, module in model.named_modules():
        kind = kind_of(module)
        if kind is not None or isinstance(module, _OTHERS):
            hook = _marker(
                tracer, name, -1 if kind is None else kind.channel_dim, only_first=kind is not None
            )
            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _marker(tracer: Tracer, name: str, channel_dim: int, *, only_first: bool) -> Any:
    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = (*args, *kwargs.values())
        for x in given[:1] if only_first else given:
            if not isinstance(x, torch.Tensor) or torch._C._functorch.is_batchedtensor(x):
                continue
            if not x.is_floating_point() or tracer.is_data(x):
                continue
            labels = tracer.labels(x)[channel_dim] if x.ndim >= abs(channel_dim) + (channel_dim > 0) else None
            tracer.mark_input(x, known=True)
            if labels is not None and tracer.of_parameter(labels):
                tracer.contractions.append(Contraction(name, "constant", None, None, labels))

    return before
