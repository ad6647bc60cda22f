"""Operators of recurrent layers: sequences of several lengths, and the fused cells of accelerators."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def pack(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``_pack_padded_sequence(x, lengths, batch_first)``: [batch, steps, ...] to [all steps, ...], and how
    many sequences are left at each step."""
    tracer.give(out[0], tracer.frozen_along(args[0], (0, 1), "steps of sequences")[1:])


def pad_packed(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``_pad_packed_sequence(x, batch_sizes, ...)``: the other way round."""
    tracer.give(out[0], [None, *tracer.frozen_along(args[0], [0], "steps of sequences")])


def lstm_cell(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``_thnn_fused_lstm_cell(input_gates, hidden_gates, cell, bias, bias)``: four gates of each unit."""
    _cell(tracer, args[:2], args[3:5], args[2], 4, out[:2])


def gru_cell(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``_thnn_fused_gru_cell(input_gates, hidden_gates, state, bias, bias)``: three gates of each unit."""
    _cell(tracer, args[:2], args[3:5], args[2], 3, out[:1])


def _cell(tracer: Any, gates: Any, biases: Any, state: torch.Tensor, number: int, results: Any) -> None:
    units = tracer.labels(state)[-1]
    for tensor in (*gates, *biases):
        if tensor is None:
            continue
        labels = tracer.labels(tensor)[-1]
        if labels is None:
            tracer.freeze(units, "gates that no layer writes")
            continue
        rows, each = tracer.split(np.reshape(labels, (number, -1)))
        tracer.freeze(rows, "the gates of a unit")
        tracer.unite(each, units)
    for result in results:
        tracer.give(result, [None] * (result.ndim - 1) + [units])


RULES = {
    "_pack_padded_sequence": pack,
    "_pad_packed_sequence": pad_packed,
    "_thnn_fused_lstm_cell": lstm_cell,
    "_thnn_fused_gru_cell": gru_cell,
}
