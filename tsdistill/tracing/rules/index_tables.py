"""Operators that pick coordinates by a table of numbers, and any other movement without a rule of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tsdistill.tracing.trace_record import Contraction


def pick(func: Any) -> Any:
    """A rule that applies the operator itself to the labels of its first operand, spread over its shape."""

    def rule(tracer: Any, args: tuple, kwargs: dict, out: torch.Tensor) -> None:
        source = args[0]
        result: list[np.ndarray | None] = [None] * out.ndim
        for d, labels in enumerate(tracer.labels(source)):
            if labels is None:
                continue
            shape = [1] * source.ndim
            shape[d] = -1
            spread = (
                torch.from_numpy(labels.astype(np.float64)).reshape(shape).expand(source.shape).contiguous()
            )
            block = func(spread, *args[1:], **kwargs).numpy().astype(np.int64)
            for where, axis in enumerate(tracer.split(block)):
                if axis is None:
                    continue
                if result[where] is not None:
                    tracer.freeze(result[where], "two labelled dimensions became one")
                    tracer.freeze(axis, "two labelled dimensions became one")
                result[where] = axis
        tracer.give(out, result)

    return rule


def index(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """``x[i, :, j]``: dimensions without a table keep their labels; rows chosen by number stay."""
    source, tables = args[0], list(args[1])
    tables += [None] * (source.ndim - len(tables))
    fields = tracer.labels(source)
    chosen = [d for d, table in enumerate(tables) if table is not None]
    tracer.frozen_along(source, chosen, "rows are looked up by number")
    for table in tables:
        if table is not None:
            tracer.frozen_along(table, range(table.ndim), "used as numbers of rows")
    wide = out.ndim - (source.ndim - len(chosen))
    kept: list[np.ndarray | None] = [fields[d] for d in range(source.ndim) if d not in chosen]
    together = chosen == list(range(chosen[0], chosen[-1] + 1))
    start = chosen[0] if together else 0
    tracer.give(out, [*kept[:start], *[None] * wide, *kept[start:]])


def index_put(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """``x[i] = values``, ``x[:, i] = values``: dimensions behind the tables go with those of the values."""
    target, tables, values = args[0], list(args[1]), args[2]
    fields, sources = list(tracer.labels(target)), tracer.labels(values)
    behind = target.ndim - len(tables)
    fixed = [*fields[: len(tables)], *sources[: max(values.ndim - behind, 0)]]
    for table in tables:
        fixed += tracer.labels(table) if table is not None else ()
    for labels in fixed:
        tracer.freeze(labels, "rows are looked up by number")
    for d in range(-behind, 0):
        if -d <= values.ndim and values.shape[d] > 1 and (fields[d] is not None or sources[d] is not None):
            tracer.unite(fields[d], sources[d])
            fields[d] = fields[d] if sources[d] is not None else None
    tracer.give(out, [None if d < len(tables) else labels for d, labels in enumerate(fields)])


def along(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """``index_add(x, dim, i, values)``, ``scatter_add(x, dim, i, values)``, ``scatter_reduce(x, dim, i,
    values, how)`` and the like: the other dimensions go with those of the values, and of a table that has as
    many dimensions (one that was expanded is the same all along)."""
    target, dim = args[0], args[1] % args[0].ndim
    meeting = [t for t in args[2:4] if isinstance(t, torch.Tensor) and t.ndim == target.ndim]
    fields = list(tracer.labels(target))
    for tensor in (target, *meeting, args[2]):
        place = dim if tensor.ndim == target.ndim else 0
        tracer.freeze(tracer.labels(tensor)[place], "rows are looked up by number")
    for d in range(target.ndim):
        for tensor in meeting:
            labels = tracer.labels(tensor)[d]
            expanded = tensor is args[2] and not tensor.stride(d)
            met = fields[d] is not None or labels is not None
            if d != dim and target.shape[d] > 1 and met and not expanded:
                tracer.unite(fields[d], labels)
                fields[d] = fields[d] if labels is not None else None
    fields[dim] = None
    tracer.give(out, fields)


def segments(tracer: Any, args: tuple, kwargs: dict, out: torch.Tensor) -> None:
    """``segment_reduce(x, how, lengths=, axis=)``: rows of one dimension by segments, all others side by
    side."""
    source = args[0]
    dim = int(kwargs.get("axis", args[5] if len(args) > 5 else 0)) % source.ndim
    tracer.give(out, tracer.frozen_along(source, [dim], "rows are reduced by segments"))


def triangle(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """``tril`` and ``triu``: what is cleared of a matrix depends on the numbers of its rows and columns."""
    tracer.give(out, tracer.frozen_along(args[0], (-2, -1), "rows and columns by number"))


def index_select(tracer: Any, args: tuple, _kwargs: dict, out: torch.Tensor) -> None:
    """Rows of one dimension by number; they stay."""
    tracer.give(out, tracer.frozen_along(args[0], [args[1]], "rows are looked up by number"))


def embedding(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``embedding`` and ``_embedding_bag``: rows of a table or their sums; the table writes the columns."""
    _, columns = tracer.frozen_along(args[0], [0], "rows are looked up by number")
    result = out if isinstance(out, torch.Tensor) else out[0]
    tracer.give(result, [None] * (result.ndim - 1) + [columns])
    tracer.contractions.append(Contraction(tracer.step.module, "embedding", None, None, columns))


_PICKED = {
    "pixel_shuffle": torch.ops.aten.pixel_shuffle,
    "pixel_unshuffle": torch.ops.aten.pixel_unshuffle,
    "unfold": torch.ops.aten.unfold,
    "channel_shuffle": torch.ops.aten.channel_shuffle,
    "native_channel_shuffle": torch.ops.aten.channel_shuffle,
    "gather": torch.ops.aten.gather,
    "diagonal": torch.ops.aten.diagonal,
    "as_strided": torch.ops.aten.as_strided,
}
RULES = {
    **{name: pick(func) for name, func in _PICKED.items()},
    "index": index,
    **dict.fromkeys(("index_put", "_index_put_impl"), index_put),
    **dict.fromkeys(("index_add", "index_reduce", "scatter", "scatter_add", "scatter_reduce"), along),
    "segment_reduce": segments,
    **dict.fromkeys(("tril", "triu"), triangle),
    "index_select": index_select,
    **dict.fromkeys(("embedding", "_embedding_bag", "_embedding_bag_forward_only"), embedding),
}
