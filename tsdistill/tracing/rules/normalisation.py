"""Norms and fake quantisation: parameters of channels go with these; statistics may span nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from tsdistill.runtime.nests import tensors
from tsdistill.tracing.rules.elementwise import copy


def batch_norm(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``native_batch_norm(x, weight, bias, running_mean, running_var, ...)``: everything is per channel.

    Where it takes its statistics from ``x`` (a weight that is standardised, say), they run over the rest.
    """
    x = args[0]
    fields = tracer.labels(x)
    if not isinstance(args[3], torch.Tensor) or (len(args) > 5 and args[5] is True):
        for d, labels in enumerate(fields):
            if d != 1:
                tracer.span(0, d, labels)
    for parameter in args[1:5]:
        if isinstance(parameter, torch.Tensor) and x.shape[1] > 1:
            tracer.unite(fields[1], tracer.labels(parameter)[0])
    tracer.give(out[0] if isinstance(out, tuple | list) else out, fields)


def layer_norm(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``native_layer_norm(x, shape, weight, bias, eps)``: statistics over the trailing dimensions."""
    x, shape = args[0], args[1]
    fields = tracer.labels(x)
    trailing = range(x.ndim - len(shape), x.ndim)
    for position, d in enumerate(trailing):
        tracer.size(1, position, fields[d])
        tracer.span(0, d, fields[d])
        for parameter in args[2:4]:
            if isinstance(parameter, torch.Tensor) and x.shape[d] > 1:
                labels = tracer.labels(parameter)[position]
                if labels is not None or fields[d] is not None:
                    tracer.unite(fields[d], labels)
    tracer.give(out[0] if isinstance(out, tuple | list) else out, fields)


def group_norm(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``native_group_norm(x, weight, bias, N, C, HxW, group, eps)``: statistics over C / group channels."""
    x, weight, bias, _, channels, _, groups = args[:7]
    fields = tracer.frozen_along(x, range(2, x.ndim), "the extent of a norm")
    labels = fields[1]
    if labels is not None:
        inner = channels // groups
        if groups > 1:
            axis = tracer.constraints.new_labels(groups)
            tracer.size(6, None, axis)
            if inner > 1:
                offset = tracer.constraints.new_labels(inner)
                tracer.block(labels, (np.repeat(axis, inner), np.tile(offset, groups)))
            else:
                tracer.unite(labels, axis)
        tracer.size(4, None, labels)
        tracer.span(0, 1, labels)
    for parameter in (weight, bias):
        if isinstance(parameter, torch.Tensor):
            tracer.unite(labels, tracer.labels(parameter)[0])
    tracer.give(out[0] if isinstance(out, tuple | list) else out, fields)


def weight_norm(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``_weight_norm_interface(v, g, dim)``: v scaled to the length g along ``dim``.

    The lengths that v has over the nodes that stay are made good at the cut (``surgery``).
    """
    direction, length = args[:2]
    fields, lengths = tracer.labels(direction), tracer.labels(length)
    for dim, labels in enumerate(lengths):
        if length.shape[dim] > 1:
            tracer.unite(fields[dim], labels)
    tracer.give(out[0], fields)


def fused_observer(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``_fused_moving_avg_obs_fq_helper(x, ..., running_min, running_max, scale, zero_point, ..., ch_axis,
    per_row)``: element by element; with one scale a channel these go with the channels."""
    fields = tracer.labels(args[0])
    by_channel = len(args) > 11 and args[11]
    _scales(tracer, fields, args[3:7] if by_channel else (), args[10])
    for result in out:
        tracer.give(result, fields if result.ndim == len(fields) else [None] * result.ndim)


def by_channel(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``fake_quantize_per_channel_affine(x, scale, zero_point, axis, ...)``."""
    fields = tracer.labels(args[0])
    _scales(tracer, fields, args[1:3], args[3])
    for result in tensors(out):
        tracer.give(result, fields)


def _scales(tracer: Any, fields: Any, tensors: Iterable[Any], axis: int) -> None:
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor) and tensor.ndim == 1 and tensor.shape[0] > 1:
            tracer.unite(fields[axis], tracer.labels(tensor)[0])


_BATCH_NORMS = (
    *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
    *("_batch_norm_no_update", "_batch_norm_with_update", "cudnn_batch_norm", "batch_norm"),
)
_BY_TENSOR = (
    "fake_quantize_per_tensor_affine_cachemask",
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
)
RULES = {
    **dict.fromkeys(_BATCH_NORMS, batch_norm),
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm"), layer_norm),
    "native_group_norm": group_norm,
    "_weight_norm_interface": weight_norm,
    "_fused_moving_avg_obs_fq_helper": fused_observer,
    "fake_quantize_per_channel_affine_cachemask": by_channel,
    **dict.fromkeys(_BY_TENSOR, copy),
}
