"""Operators that modules apply to their weights before they use them."""

from __future__ import annotations

from typing import Any

import torch

from tsdistill.tracing.trace_record import Contraction


def weight_norm(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
    """``_weight_norm_interface(v, g, dim)``: v scaled to the length g along ``dim``.

    The lengths that v has over the nodes that stay are made good at the cut (``surgery``).
    """
    direction, length = args[:2]
    fields, lengths = tracer.labels(direction), tracer.labels(length)
    for dim, labels in enumerate(lengths):
        if length.shape[dim] > 1:
            tracer.unite(fields[dim], labels)
    tracer.give(out[0], fields)


def embedding_bag(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
    """``_embedding_bag(weight, indices, offsets, ...)``: sums of rows; the table writes the columns."""
    rows, columns = tracer.labels(args[0])
    tracer.freeze(rows, "rows are looked up by number")
    tracer.give(out[0], [None, columns])
    tracer.contractions.append(Contraction(tracer.step.module, "embedding", None, None, columns))


def fourier(tracer: Any, args: tuple, kwargs: dict, out: torch.Tensor) -> None:
    """``_fft_r2c(x, dims, ...)`` and its kin: every coordinate of the transformed dimensions is used."""
    fields = list(tracer.labels(args[0]))
    for dim in args[1]:
        tracer.freeze(fields[dim], "the extent of a Fourier transform")
        fields[dim] = None
    tracer.give(out, fields)


def as_real(tracer: Any, args: tuple, kwargs: dict, out: torch.Tensor) -> None:
    """Complex numbers as pairs along one more dimension."""
    tracer.give(out, [*tracer.labels(args[0]), None])


def as_complex(tracer: Any, args: tuple, kwargs: dict, out: torch.Tensor) -> None:
    """Pairs along the last dimension as complex numbers."""
    *fields, pairs = tracer.labels(args[0])
    tracer.freeze(pairs, "real and imaginary parts")
    tracer.give(out, fields)


RULES = {
    "_weight_norm_interface": weight_norm,
    "_embedding_bag": embedding_bag,
    "_embedding_bag_forward_only": embedding_bag,
    **dict.fromkeys(("_fft_r2c", "_fft_c2r", "_fft_c2c"), fourier),
    "view_as_real": as_real,
    "view_as_complex": as_complex,
}
