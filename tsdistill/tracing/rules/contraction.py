"""Operators that sum products: convolutions and matrix products. Fan-in and fan-out are read off here."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch

from tsdistill.tracing.trace_record import Contraction


def matmul(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """``mm``, ``bmm``: [b,] n x k times [b,] k x m."""
    _product(tracer, args[0], args[1], 0, 1, out)


def addmm(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """``addmm``, ``baddbmm``: a product and something broadcast onto it."""
    added = args[0]
    result = _product(tracer, args[1], args[2], 1, 2, out)
    for d in range(-added.ndim, 0):
        if added.shape[d] > 1:
            labels = tracer.labels(added)[d]
            if labels is not None or result[d] is not None:
                tracer.unite(result[d], labels)


def _product(
    tracer: Any, a: torch.Tensor, b: torch.Tensor, place_a: int, place_b: int, out: torch.Tensor
) -> list[np.ndarray | None]:
    left, right = tracer.labels(a), tracer.labels(b)
    row, inner = left[-2:]
    inner_b, column = right[-2:]
    k = a.shape[-1]
    if k > 1:
        tracer.unite(inner, inner_b)
    batch: list[np.ndarray | None] = []
    if a.ndim == 3:
        if a.shape[0] > 1 and (left[0] is not None or right[0] is not None):
            tracer.unite(left[0], right[0])
        batch = [left[0] if right[0] is not None else None]
    tracer.contract(place_a, a.ndim - 1, inner)
    tracer.contract(place_b, b.ndim - 2, inner_b)
    sizes = [(n, f) for n, f in zip(a.shape[:-2], batch, strict=True)]
    tracer.cost(1, *sizes, (a.shape[-2], row), (k, inner), (b.shape[-1], column))
    _note(tracer, a, b, "matmul", inner, row, inner_b, column)
    result = [*batch, row, column]
    tracer.give(out, result)
    return result


def grouped(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """``_grouped_mm``: rows n x k, sorted by experts, times a weight k x m of each expert; both k and m have
    to fill whole lines of memory."""
    a, b = args[:2]
    if a.ndim != 2 or b.ndim != 3:
        raise ValueError("each expert has rows of its own here")
    _, inner_b, column = tracer.frozen_along(b, [0], "experts are picked by number")
    _, inner = tracer.frozen_along(a, [0], "rows are sorted by experts")
    tracer.unite(inner, inner_b)
    tracer.aligned += [labels for labels in (inner, column) if labels is not None]
    tracer.contract(0, 1, inner)
    tracer.contract(1, 1, inner_b)
    tracer.cost(1, (a.shape[0], None), (a.shape[1], inner), (b.shape[2], column))
    _note(tracer, a, b, "matmul", inner, None, inner_b, column)
    tracer.give(out, [None, column])


def distances(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """``_cdist_forward(a, b, p, ...)``, ``_euclidean_dist(a, b)``: a distance from every row of ``a`` to
    every row of ``b``; a coordinate that is zero in both adds nothing to it."""
    a, b = args[:2]
    left, right = tracer.labels(a), tracer.labels(b)
    if len(args) > 2 and not args[2]:
        raise ValueError("the zeroth norm counts coordinates")
    if a.shape[-1] > 1:
        tracer.unite(left[-1], right[-1])
    tracer.contract(0, a.ndim - 1, left[-1])
    tracer.contract(1, b.ndim - 1, right[-1])
    result = [None] * out.ndim
    for d in range(3, out.ndim + 1):
        met = [
            tracer.labels(t)[-d] if t.ndim >= d and t.shape[-d] > 1 and t.stride(-d) else None for t in (a, b)
        ]
        if met[0] is not None or met[1] is not None:
            tracer.unite(*met)
            result[-d] = met[0] if met[1] is not None else None
    result[-2:] = left[-2], right[-2]
    _note(tracer, a, b, "distance", left[-1], None, right[-1], None)
    tracer.give(out, result)


def solve(tracer: Any, args: tuple, kwargs: dict, out: torch.Tensor) -> None:
    """``linalg_solve_triangular(A, B)``: every column of B by itself, in every batch by itself."""
    if not kwargs.get("left", True):
        raise ValueError("rows are solved for here")
    a, b = args[:2]
    (*batch, row, inner), (*others, inner_b, column) = tracer.labels(a), tracer.labels(b)
    for labels in (row, inner, inner_b):
        tracer.freeze(labels, "unknowns of one system of equations")
    shared: list[np.ndarray | None] = []
    for size, one, other in zip(a.shape, batch, others, strict=False):
        if size > 1 and (one is not None or other is not None):
            tracer.unite(one, other)
        shared.append(one if other is not None else None)
    tracer.give(out, [*shared, None, column])


def vector(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """``mv`` and ``dot``: the last dimension of the first operand meets the second operand."""
    a, b = args[-2:]
    inner, other = tracer.labels(a)[-1], tracer.labels(b)[0]
    tracer.unite(inner, other)
    if a.ndim == 1 and not tracer.is_data(a) and not tracer.is_data(b):
        tracer.freeze(inner, "a figure that is computed from all of a weight")
    tracer.contract(len(args) - 2, a.ndim - 1, inner)
    tracer.contract(len(args) - 1, 0, other)
    row = list(tracer.labels(a)[:-1])
    if len(args) == 3 and args[0].ndim and row:
        tracer.unite(row[0], tracer.labels(args[0])[0])
    tracer.give(out, row)


def _note(
    tracer: Any,
    a: torch.Tensor,
    b: torch.Tensor,
    kind: str,
    inner_a: np.ndarray | None,
    row: np.ndarray | None,
    inner_b: np.ndarray | None,
    column: np.ndarray | None,
) -> None:
    data_a, data_b = tracer.is_data(a), tracer.is_data(b)
    module = tracer.reader
    if data_a and data_b:
        tracer.step.pairs = True
        tracer.constraints.inner.extend(labels for labels in (inner_a, inner_b) if labels is not None)
    elif data_a:
        tracer.contractions.append(Contraction(module, kind, inner_b, inner_a, column))
    elif data_b:
        tracer.contractions.append(Contraction(module, kind, inner_a, inner_b, row))


def convolution(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """``convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)``."""
    x, weight, bias = args[:3]
    transposed, groups = args[6], args[8]
    fields, kernel = tracer.labels(x), tracer.labels(weight)
    extents = _extents(tracer, fields[2:], kernel[2:], args)
    result = _channels(tracer, x, weight, bias, groups, transposed=transposed)
    space = x.shape[2:] if transposed else out.shape[2:]
    free = [(size, labels) for size, labels in zip(space, extents, strict=True) if labels is not None]
    taps = prod(weight.shape[2:]) * prod(space) * x.shape[0] // prod(size for size, _ in free)
    tracer.cost(taps, *free, (weight.shape[0], kernel[0]), (weight.shape[1], kernel[1]))
    tracer.give(out, [fields[0], result, *extents])


def deformed(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """``deform_conv2d(x, weight, offset, mask, bias, ..., groups, offset_groups, use_mask)``: a convolution
    whose taps are moved; all channels of an offset group are read at the same places."""
    x, weight, offset, mask, bias = args[:5]
    groups, moved = args[11], args[12]
    fields, kernel = tracer.labels(x), tracer.labels(weight)
    for tensor in (x, weight):
        tracer.frozen_along(tensor, (2, 3), "the extent of a convolution")
    for tensor in (offset, mask):
        tracer.frozen_along(tensor, range(tensor.ndim), "where the taps of a convolution are")
    result = _channels(tracer, x, weight, bias, groups, place=11)
    if moved > 1 and fields[1] is not None:
        rows, _ = tracer.split(fields[1].reshape(moved, -1))
        tracer.freeze(rows, "channels are moved in groups")
    taps = prod(weight.shape[2:]) * prod(out.shape[2:]) * x.shape[0]
    tracer.cost(taps, (weight.shape[0], kernel[0]), (weight.shape[1], kernel[1]))
    tracer.give(out, [fields[0], result, None, None])


def _extents(tracer: Any, fields: Any, kernel: Any, args: tuple) -> list[np.ndarray | None]:
    """Labels along the extents of what comes out: those of the input where a kernel of one tap looks at every
    coordinate by itself."""
    for labels in kernel:
        tracer.freeze(labels, "the extent of a kernel")
    extents: list[np.ndarray | None] = []
    for d, labels in enumerate(fields):
        stride, padding, added = (args[place][min(d, len(args[place]) - 1)] for place in (3, 4, 7))
        alone = args[1].shape[2 + d] == 1 and (stride, padding, added) == (1, 0, 0)
        if not alone:
            tracer.freeze(labels, "the extent of a convolution")
        extents.append(labels if alone else None)
    return extents


def _channels(
    tracer: Any,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    groups: int,
    *,
    transposed: bool = False,
    place: int = 8,
) -> np.ndarray | None:
    """Note who reads the channels of ``x`` and who writes those that come out; the labels of these.

    Of several groups g with I inputs and O outputs each, channel (g, i) stays where group g and kernel column
    i do; their number is the argument at ``place``. A transposed weight is [g I, O, ...].
    """
    channels, kernel = tracer.labels(x)[1], tracer.labels(weight)
    written, read = (kernel[1], kernel[0]) if transposed else (kernel[0], kernel[1])
    result, new_labels = written, tracer.constraints.new_labels
    inputs, outputs = x.shape[1] // groups, weight.shape[1] if transposed else weight.shape[0] // groups
    if groups == 1:
        if x.shape[1] > 1:
            tracer.unite(channels, read)
    else:
        axis = new_labels(groups)
        tracer.size(place, None, axis)
        if transposed:
            tracer.unite(channels, read)
            _tie(tracer, read, axis, new_labels(inputs) if inputs > 1 else None, inputs)
            result = new_labels(groups * outputs)
            _tie(tracer, result, axis, written, outputs)
        else:
            _tie(tracer, channels, axis, read, inputs)
            _tie(tracer, written, axis, new_labels(outputs) if outputs > 1 else None, outputs)
    if bias is not None and len(bias) > 1:
        tracer.unite(result, tracer.labels(bias)[0])
    tracer.contract(0, 1, channels)
    if tracer.is_data(x) and not tracer.is_data(weight):
        mixes = groups == 1 or inputs > 1
        tracer.contractions.append(Contraction(tracer.reader, "conv", read, channels, written, mixes=mixes))
    return result


def _tie(tracer: Any, whole: Any, axis: np.ndarray, offset: np.ndarray | None, inner: int) -> None:
    if whole is None:
        tracer.freeze(axis, "a grouped convolution of a tensor that no layer writes")
        tracer.freeze(offset, "a grouped convolution of a tensor that no layer writes")
        return
    groups = len(axis)
    if inner == 1:
        tracer.unite(whole, axis)
        return
    factors: tuple[np.ndarray, ...] = (np.repeat(axis, inner),)
    if offset is not None:
        factors += (np.tile(offset, groups),)
    tracer.block(whole, factors)


RULES = {
    **dict.fromkeys(("mm", "bmm"), matmul),
    **dict.fromkeys(("addmm", "baddbmm"), addmm),
    "_grouped_mm": grouped,
    "linalg_solve_triangular": solve,
    "deform_conv2d": deformed,
    **dict.fromkeys(("_cdist_forward", "_euclidean_dist", "cdist"), distances),
    **dict.fromkeys(("mv", "addmv", "dot", "vdot"), vector),
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable"), convolution),
}
