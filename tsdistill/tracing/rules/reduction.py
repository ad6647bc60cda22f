"""Sums, means, extremes over dimensions, softmax, and Fourier transforms."""

from __future__ import annotations

from typing import Any

import torch

from tsdistill.runtime.nests import tensors
from tsdistill.tracing.rules.elementwise import Rule


def _dims(args: tuple, kwargs: dict, rank: int, position: int = 1) -> list[int]:
    dims = args[position] if len(args) > position else kwargs.get("dim")
    if dims is None or (isinstance(dims, list | tuple) and not dims):
        return list(range(rank))
    if isinstance(dims, bool | float):
        return list(range(rank))
    return [d % rank for d in (dims if isinstance(dims, list | tuple) else [dims])]


def _reduce(tracer: Any, source: torch.Tensor, dims: list[int], out: Any) -> None:
    fields = tracer.labels(source)
    for result in tensors(out):
        if result.ndim == source.ndim:
            tracer.give(result, [None if d in dims else f for d, f in enumerate(fields)])
        else:
            tracer.give(result, [f for d, f in enumerate(fields) if d not in dims])


def _statistic(place: int) -> Rule:
    """A statistic over dimensions, its argument at ``place``; after a cut it is taken over the nodes that
    stay."""

    def rule(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
        dims = _dims(args, kwargs, args[0].ndim, place)
        for d in dims:
            tracer.span(0, d, tracer.labels(args[0])[d])
        _reduce(tracer, args[0], dims, out)

    return rule


def position(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
    """The place of an extreme is a number of coordinates, so they stay."""
    dims = _dims(args, kwargs, args[0].ndim)
    tracer.frozen_along(args[0], dims, "the place of an extreme is used")
    _reduce(tracer, args[0], dims, out)


def _dependent(place: int) -> Rule:
    """Softmax, cumulative sums, sorting, the largest values: coordinates along the dimension, the argument at
    ``place``, depend on each other and stay."""

    def rule(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
        positional = len(args) > place and isinstance(args[place], int)
        dim = args[place] if positional else kwargs.get("dim", -1)
        fields = tracer.frozen_along(args[0], [dim], "coordinates that depend on each other")
        for result in tensors(out):
            tracer.give(result, fields)

    return rule


def fourier(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """``_fft_r2c(x, dims, ...)`` and its kin: every coordinate of the transformed dimensions is used."""
    tracer.give(out, tracer.frozen_along(args[0], args[1], "the extent of a Fourier transform"))


_STATISTICS = ("mean", "sum", "var", "std", "var_mean", "std_mean", "amax", "amin", "prod", "logsumexp")
_POSITIONS = ("max", "min", "argmax", "argmin")
_SOFTMAX = ("_softmax", "_safe_softmax", "softmax", "_log_softmax", "log_softmax")
RULES = {
    **dict.fromkeys(_STATISTICS, _statistic(1)),
    **dict.fromkeys(("linalg_vector_norm", "norm"), _statistic(2)),
    **dict.fromkeys(_POSITIONS, position),
    **dict.fromkeys((*_SOFTMAX, "cumsum", "cumprod", "sort"), _dependent(1)),
    "topk": _dependent(2),
    **dict.fromkeys(("_fft_r2c", "_fft_c2r", "_fft_c2c"), fourier),
}
