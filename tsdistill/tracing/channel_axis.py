"""Which dimension of an activation holds channels: followed from the layer that writes it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from tsdistill.tracing.trace_aligner import operator_kind

_LAST = frozenset(("mm", "addmm", "bmm", "baddbmm", "linear", "matmul", "embedding"))
"""Operators that write channels into the last dimension."""

_RESHAPES = frozenset(("view", "unsqueeze", "squeeze", "clone"))
"""Operators that keep the order of the elements."""

_CONVOLUTIONS = frozenset(("convolution", "_convolution", "convolution_overrideable"))
"""Operators that write channels into dimension 1."""


def channel_axis(
    op: str,
    args: Sequence[Any],
    shape: tuple[int, ...],
    sources: Sequence[tuple[tuple[int, ...], int | None]],
) -> int | None:
    """The dimension of an operator's result that holds channels; ``None`` where that is not known.

    Args:
        op: full name of the operator.
        args: its positional arguments.
        shape: of the result.
        sources: of every activation that it reads, the shape and the dimension that holds channels.
    """
    kind = operator_kind(op)
    if kind in _CONVOLUTIONS:
        return 1 if len(shape) > 2 else None
    if kind in _LAST:
        return len(shape) - 1 if shape else None
    known = [(source, axis) for source, axis in sources if axis is not None]
    known.sort(key=lambda each: each[0] != shape)
    for source, axis in known:
        moved = _moved(kind, args, source, axis, shape)
        if moved is not None:
            return moved
    return None


def _moved(
    kind: str, args: Sequence[Any], source: tuple[int, ...], axis: int, shape: tuple[int, ...]
) -> int | None:
    rank = len(source)
    if kind == "permute":
        return [dim % rank for dim in args[1]].index(axis)
    if kind in ("transpose", "t"):
        one, other = (0, 1) if kind == "t" else (args[1] % rank, args[2] % rank)
        return {one: other, other: one}.get(axis, axis)
    if kind in _RESHAPES:
        after = prod(source[axis + 1 :])
        places = [d for d, size in enumerate(shape) if size == source[axis] and prod(shape[d + 1 :]) == after]
        return places[-1] if places else None
    place = axis if len(shape) == rank else axis - rank + len(shape)
    return place if 0 <= place < len(shape) and shape[place] == source[axis] else None
