"""Fake quantisation: element by element; scales of channels go with their channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


def fused_observer(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
    """``_fused_moving_avg_obs_fq_helper(x, ..., running_min, running_max, scale, zero_point, ..., ch_axis,
    per_row)``: element by element; with one scale a channel these go with the channels."""
    fields = tracer.labels(args[0])
    by_channel = len(args) > 11 and args[11]
    _scales(tracer, fields, args[3:7] if by_channel else (), args[10])
    for result in out:
        tracer.give(result, fields if result.ndim == len(fields) else [None] * result.ndim)


def by_channel(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
    """``fake_quantize_per_channel_affine(x, scale, zero_point, axis, ...)``."""
    fields = tracer.labels(args[0])
    _scales(tracer, fields, args[1:3], args[3])
    for result in (out,) if isinstance(out, torch.Tensor) else out:
        tracer.give(result, fields)


def by_tensor(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
    """``fake_quantize_per_tensor_affine(x, scale, zero_point, ...)``: one scale for all."""
    fields = tracer.labels(args[0])
    for result in (out,) if isinstance(out, torch.Tensor) else out:
        tracer.give(result, fields)


def _scales(tracer: Any, fields: Any, tensors: Iterable[Any], axis: int) -> None:
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor) and tensor.ndim == 1 and tensor.shape[0] > 1:
            tracer.unite(fields[axis], tracer.labels(tensor)[0])


RULES = {
    "_fused_moving_avg_obs_fq_helper": fused_observer,
    "fake_quantize_per_channel_affine_cachemask": by_channel,
    "fake_quantize_per_tensor_affine_cachemask": by_tensor,
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams": by_tensor,
}
