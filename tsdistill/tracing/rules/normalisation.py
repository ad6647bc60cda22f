"""Norms: per-channel parameters go with their channels; statistics may span nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def batch_norm(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
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


def layer_norm(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
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


def group_norm(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
    """``native_group_norm(x, weight, bias, N, C, HxW, group, eps)``: statistics over C / group channels."""
    x, weight, bias, _, channels, _, groups = args[:7]
    fields = tracer.labels(x)
    for labels in fields[2:]:
        tracer.freeze(labels, "the extent of a norm")
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
    tracer.give(out[0] if isinstance(out, tuple | list) else out, [*fields[:2], *[None] * (x.ndim - 2)])


RULES = {
    "native_batch_norm": batch_norm,
    "_native_batch_norm_legit": batch_norm,
    "_native_batch_norm_legit_no_training": batch_norm,
    "_batch_norm_no_update": batch_norm,
    "_batch_norm_with_update": batch_norm,
    "cudnn_batch_norm": batch_norm,
    "batch_norm": batch_norm,
    "native_layer_norm": layer_norm,
    "_fused_rms_norm": layer_norm,
    "native_group_norm": group_norm,
}
