"""Sums, means, extremes over dimensions, and softmax."""

from __future__ import annotations

from typing import Any

import torch

from tsdistill.runtime.modes import tensors_in


def _dims(args: tuple, kwargs: dict, rank: int, position: int = 1) -> list[int]:
    dims = args[position] if len(args) > position else kwargs.get("dim")
    if dims is None or (isinstance(dims, list | tuple) and not dims):
        return list(range(rank))
    if isinstance(dims, bool | float):
        return list(range(rank))
    return [d % rank for d in (dims if isinstance(dims, list | tuple) else [dims])]


def _reduce(tracer: Any, source: torch.Tensor, dims: list[int], out: Any) -> None:
    fields = tracer.labels(source)
    for result in tensors_in(out):
        kept = result.ndim == source.ndim
        if kept:
            tracer.give(result, [None if d in dims else f for d, f in enumerate(fields)])
        else:
            tracer.give(result, [f for d, f in enumerate(fields) if d not in dims])


def statistic(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
    """A statistic over labelled dimensions is taken, after a cut, over the nodes that stay."""
    source = args[0]
    dims = _dims(args, kwargs, source.ndim)
    for d in dims:
        tracer.span(0, d, tracer.labels(source)[d])
    _reduce(tracer, source, dims, out)


def norm(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
    """``linalg_vector_norm(x, ord, dim)`` and ``norm(x, p, dim)``."""
    source = args[0]
    dims = _dims(args, kwargs, source.ndim, position=2)
    for d in dims:
        tracer.span(0, d, tracer.labels(source)[d])
    _reduce(tracer, source, dims, out)


def position(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
    """The place of an extreme is a number of coordinates, so they stay."""
    source = args[0]
    dims = _dims(args, kwargs, source.ndim)
    for d in dims:
        tracer.freeze(tracer.labels(source)[d], "the place of an extreme is used")
    _reduce(tracer, source, dims, out)


def along(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
    """Softmax, cumulative sums, sorting: coordinates along the dimension depend on each other and stay."""
    source = args[0]
    dim = (args[1] if len(args) > 1 and isinstance(args[1], int) else kwargs.get("dim", -1)) % source.ndim
    fields = list(tracer.labels(source))
    tracer.freeze(fields[dim], "coordinates that depend on each other")
    fields[dim] = None
    for result in tensors_in(out):
        tracer.give(result, fields)


def extremes(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
    """``topk(x, k, dim)``: which coordinates are taken depends on all of them, so they stay."""
    source = args[0]
    dim = (args[2] if len(args) > 2 else kwargs.get("dim", -1)) % source.ndim
    fields = list(tracer.labels(source))
    tracer.freeze(fields[dim], "coordinates that depend on each other")
    fields[dim] = None
    for result in tensors_in(out):
        tracer.give(result, fields)


_STATISTICS = ("mean", "sum", "var", "std", "var_mean", "std_mean", "amax", "amin", "prod", "logsumexp")
RULES = {
    **dict.fromkeys(_STATISTICS, statistic),
    "linalg_vector_norm": norm,
    "norm": norm,
    "max": position,
    "min": position,
    "argmax": position,
    "argmin": position,
    "_softmax": along,
    "_safe_softmax": along,
    "softmax": along,
    "_log_softmax": along,
    "log_softmax": along,
    "cumsum": along,
    "cumprod": along,
    "sort": along,
    "topk": extremes,
}
