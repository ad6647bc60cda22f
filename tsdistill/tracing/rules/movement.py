"""Operators that move coordinates about: the very same movement is applied to the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tsdistill.tracing.labels import FIXED, Labels


def view(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """Blocks of dimensions that are split or merged; every other dimension keeps its labels."""
    source = args[0]
    fields = tracer.labels(source)
    result: list[np.ndarray | None] = [None] * out.ndim
    for before, after in _blocks(source.shape, out.shape):
        if all(fields[d] is None for d in before):
            continue
        if len(before) == len(after) == 1:
            result[after[0]] = fields[before[0]]
            continue
        joined = tracer.join([fields[d] for d in before], [source.shape[d] for d in before])
        parts = tracer.split(joined.reshape([out.shape[d] for d in after]))
        for d, labels in zip(after, parts, strict=True):
            result[d] = labels
    tracer.give(out, result)
    if len(args) > 1 and isinstance(args[1], list | tuple | torch.Size):
        tracer.step.shape = tuple(out.shape)
        for d, labels in enumerate(tracer.labels(out)):
            if d < len(args[1]) and args[1][d] != -1:
                tracer.size(1, d, labels)


def _blocks(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of dimensions with equal products; dimensions of size 1 take no part."""
    a = [d for d, size in enumerate(before) if size != 1]
    b = [d for d, size in enumerate(after) if size != 1]
    blocks = []
    i = j = 0
    while i < len(a) and j < len(b):
        left, right = [a[i]], [b[j]]
        x, y = before[a[i]], after[b[j]]
        while x != y:
            if x < y:
                i += 1
                left.append(a[i])
                x *= before[a[i]]
            else:
                j += 1
                right.append(b[j])
                y *= after[b[j]]
        blocks.append((left, right))
        i, j = i + 1, j + 1
    return blocks


def permute(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """Dimensions in another order."""
    fields = tracer.labels(args[0])
    tracer.give(out, [fields[d] for d in args[1]])


def transpose(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """Two dimensions exchanged (``t`` exchanges both dimensions of a matrix)."""
    fields = list(tracer.labels(args[0]))
    if len(fields) >= 2:
        a, b = args[1:3] if len(args) >= 3 else (0, 1)
        fields[a], fields[b] = fields[b], fields[a]
    tracer.give(out, fields)


def expand(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """New or repeated dimensions carry no label."""
    fields = tracer.labels(args[0])
    result = [None] * (out.ndim - len(fields)) + list(fields)
    tracer.give(out, result)
    for d, labels in enumerate(result):
        if args[1][d] != -1:
            tracer.size(1, d, labels)


def unsqueeze(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """One more dimension of size 1."""
    fields = list(tracer.labels(args[0]))
    fields.insert(args[1] % out.ndim, None)
    tracer.give(out, fields)


def squeeze(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """Dimensions of size 1 removed."""
    source = args[0]
    fields = tracer.labels(source)
    rank = len(fields)
    dims = list(range(rank))
    if len(args) > 1:
        chosen = args[1] if isinstance(args[1], list | tuple) else [args[1]]
        dims = [d % rank for d in chosen] if rank else []
    if source is out:
        gone = set(dims) if len(dims) == rank - out.ndim else set()
    else:
        gone = {d for d in dims if source.shape[d] == 1}
    tracer.give(out, [f for d, f in enumerate(fields) if d not in gone])


def slice_(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """A range of one dimension; its ends count the labels that stay before them."""
    source = args[0]
    arguments = (*args[1:], None, None, None, None)
    dim, start, end, step = arguments[0] or 0, arguments[1] or 0, arguments[2], arguments[3] or 1
    dim %= source.ndim
    fields = list(tracer.labels(source))
    labels = fields[dim]
    if labels is not None:
        size = len(labels)
        first = _position(start, size)
        last = _position(size if end is None else end, size)
        fields[dim] = labels[first:last:step]
        if step != 1:
            tracer.freeze(labels, "a strided slice")
        if first > 0:
            tracer.size(2, None, labels[:first] if start > 0 else labels[first:])
        if last < size and end != 0:
            tracer.size(3, None, labels[:last] if end > 0 else labels[last:])
    tracer.give(out, fields)


def _position(index: int, size: int) -> int:
    return min(max(index + size if index < 0 else index, 0), size)


def select(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """One coordinate of a dimension; it stays."""
    source, dim, index = args
    dim, index = dim % source.ndim, index % source.shape[dim]
    fields = list(tracer.labels(source))
    labels = fields.pop(dim)
    if labels is not None:
        tracer.freeze(labels[index : index + 1], "one coordinate is selected by number")
        if index:
            tracer.size(2, None, labels[:index])
    tracer.give(out, fields)


def unbind(tracer: Any, args: tuple, _kwargs: dict, out: Sequence[torch.Tensor]) -> None:
    """Every coordinate of a dimension by itself; all stay."""
    source = args[0]
    dim = (args[1] if len(args) > 1 else 0) % source.ndim
    fields = list(tracer.labels(source))
    tracer.freeze(fields.pop(dim), "taken apart coordinate by coordinate")
    for part in out:
        tracer.give(part, fields)


def split(tracer: Any, args: tuple, kwargs: dict, out: Sequence[torch.Tensor]) -> None:
    """Pieces of one dimension. Equal pieces stay equal: coordinate i goes from all of them or from none."""
    source, sizes = args[0], args[1]
    dim = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % source.ndim
    fields = list(tracer.labels(source))
    labels = fields[dim]
    pieces: list[np.ndarray | None] = [None] * len(out)
    widths = [part.shape[dim] for part in out]
    if labels is not None and len(out) > 1 and len(set(widths)) == 1 and widths[0] > 1:
        rows, columns = tracer.split(labels.reshape(len(out), widths[0]))
        tracer.freeze(rows, "taken apart into a fixed number of pieces")
        pieces = [columns] * len(out)
        for place in [None] if isinstance(sizes, int) else range(len(out)):
            tracer.size(1, place, columns)
    elif labels is not None:
        pieces = list(np.split(labels, np.cumsum(widths)[:-1]))
        for i, piece in enumerate(pieces):
            if isinstance(sizes, int):
                tracer.freeze(piece, "taken apart into unequal pieces by one number")
            else:
                tracer.size(1, i, piece)
    for part, piece in zip(out, pieces, strict=True):
        tracer.give(part, [*fields[:dim], piece, *fields[dim + 1 :]])


def cat(tracer: Any, args: tuple, kwargs: dict, out: torch.Tensor) -> None:
    """Tensors one behind the other along one dimension; along the others, what meets goes together."""
    parts = [t for t in args[0] if t.ndim == out.ndim]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.ndim
    result: list[np.ndarray | None] = _meet(tracer, parts, out.ndim, skip=dim)
    pieces = [_filled(tracer.labels(t)[dim], t.shape[dim]) for t in parts]
    result[dim] = np.concatenate(pieces)
    tracer.give(out, result)


def stack(tracer: Any, args: tuple, kwargs: dict, out: torch.Tensor) -> None:
    """Tensors side by side along a new dimension, which carries no label."""
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.ndim
    result = _meet(tracer, list(args[0]), out.ndim - 1, skip=None)
    result.insert(dim, None)
    tracer.give(out, result)


def _meet(tracer: Any, parts: Sequence[torch.Tensor], rank: int, skip: int | None) -> list[np.ndarray | None]:
    result: list[np.ndarray | None] = [None] * rank
    for d in range(rank):
        if d == skip:
            continue
        meeting = [tracer.labels(t)[d] for t in parts]
        result[d] = next((labels for labels in meeting if labels is not None), None)
        for labels in meeting:
            if result[d] is not None and labels is not result[d]:
                tracer.unite(result[d], labels)
        if any(labels is None for labels in meeting):
            result[d] = None
    return result


def _filled(labels: np.ndarray | None, size: int) -> np.ndarray:
    return np.full(size, FIXED, dtype=np.int64) if labels is None else labels


def pad(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """Coordinates added (or cut off) at the ends of dimensions; added ones stay."""
    source, amounts = args[0], args[1]
    fields = list(tracer.labels(source))
    for i in range(0, len(amounts), 2):
        dim = source.ndim - 1 - i // 2
        labels = fields[dim]
        if labels is not None and (amounts[i] or amounts[i + 1]):
            tracer_pad = [max(amounts[i], 0), max(amounts[i + 1], 0)]
            cut = labels[max(-amounts[i], 0) : len(labels) - max(-amounts[i + 1], 0)]
            if len(cut) < len(labels):
                tracer.freeze(labels, "cut off by a negative padding")
            fields[dim] = np.pad(cut, tracer_pad, constant_values=FIXED)
    tracer.give(out, fields)


def roll(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """Dimensions rolled or reversed."""
    source = args[0]
    dims = args[2] if len(args) > 2 else ()
    fields: list[np.ndarray | None] = list(tracer.labels(source))
    cause = "rolled by a fixed distance"
    for shift, dim in zip(args[1], dims, strict=True):
        labels = fields[dim]
        if labels is not None:
            tracer.freeze(labels, cause)
            fields[dim] = np.roll(labels, shift)
    if not dims:
        fields = tracer.frozen_along(source, range(source.ndim), cause)
    tracer.give(out, fields)


def flip(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """Dimensions reversed."""
    fields: Labels = tracer.labels(args[0])
    chosen = {d % args[0].ndim for d in args[1]}
    tracer.give(out, [f[::-1].copy() if f is not None and d in chosen else f for d, f in enumerate(fields)])


def repeat(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """Dimensions repeated a fixed number of times."""
    times = args[1]
    fields = [None] * (len(times) - args[0].ndim) + list(tracer.labels(args[0]))
    result = [f if f is None else np.tile(f, n) for f, n in zip(fields, times, strict=True)]
    tracer.give(out, result)


def as_real(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """Complex numbers as pairs along one more dimension."""
    tracer.give(out, [*tracer.labels(args[0]), None])


def as_complex(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """Pairs along the last dimension as complex numbers."""
    tracer.give(out, tracer.frozen_along(args[0], [-1], "real and imaginary parts")[:-1])


RULES = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), view),
    "permute": permute,
    "transpose": transpose,
    "t": transpose,
    "expand": expand,
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
    "slice": slice_,
    "select": select,
    "unbind": unbind,
    **dict.fromkeys(("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"), split),
    "cat": cat,
    "stack": stack,
    "constant_pad_nd": pad,
    "roll": roll,
    "flip": flip,
    "repeat": repeat,
    "view_as_real": as_real,
    "view_as_complex": as_complex,
}
