"""Networks of `tests.tracing.own_modules`, with an input and the widths that can be cut."""

from __future__ import annotations

from typing import Any

from tests.tracing.own_modules import IMAGE, SERIES, TOKENS, VECTOR

NESTED = {"x": VECTOR, "more": (VECTOR * 2, {"y": VECTOR + 1})}


CASES: dict[str, tuple[Any, dict[str, int]]] = {
    "Direct": (VECTOR, {"w": 10}),
    "Listed": (IMAGE, {"layers.0": 6, "layers.1": 6, "named.last": 8}),
    "weight_norm": (VECTOR, {"0": 10, "2": 8, "4": 9}),
    "weight_norm_by_columns": (VECTOR, {"0": 10, "2": 8, "4": 9}),
    "weight_norm_by_hooks": (VECTOR, {"0": 10, "2": 8, "4": 9}),
    "spectral_norm": (VECTOR, {"4": 9}),
    "spectral_norm_by_hooks": (VECTOR, {"4": 9}),
    "parametrized": (VECTOR, {"0": 10}),
    "transposed": (IMAGE, {"0": 12, "2": 4}),
    "shuffled": (IMAGE, {"0": 12, "2": 6, "4": 8}),
    "Einsum": (SERIES, {"w": 4, "v": 8, "values": 20}),
    "Nested": (NESTED, {"a": 10, "d": 9}),
    "Two": ((VECTOR, SERIES), {"a": 10, "b": 7, "c": 12}),
    "Branches": (IMAGE, {"a": 12, "c": 16}),
    "OnItsWidth": (IMAGE, {"b": 8}),
    "InPlace": (IMAGE, {"a": 12}),
    "Filled": (IMAGE, {"a": 6, "b": 4, "c": 8}),
    "Buffered": (SERIES, {"a": 12}),
    "gated": (SERIES, {"0": 10, "2": 8}),
    "Placed": (SERIES, {"a": 12, "b": 8, "codes": 10}),
    "Neighbours": (IMAGE, {"a": 12}),
    "Complex": (VECTOR, {"a": 10, "b": 8}),
    "Fourier": (IMAGE, {"a": 12, "b": 9}),
    "Double": (VECTOR, {"0": 10, "2": 8}),
    "Text": (TOKENS, {"table": 16, "conv": 12}),
    "Bag": (TOKENS, {"0": 16, "1": 12}),
    "TiedText": (TOKENS, {"table": 16, "up": 24}),
    "Topped": (IMAGE, {"a": 12, "b": 9}),
    "Mapped": (VECTOR, {"0": 12}),
    "TwoSided": (VECTOR, {"c": 9}),
    "lstm": (SERIES, {"enter": 12, "inner": 10, "hidden": 9}),
    "projected_lstm": (SERIES, {"enter": 12, "inner": 10, "inner#2": 4, "hidden": 9}),
    "gru": (SERIES, {"enter": 12, "inner": 10, "hidden": 9}),
    "rnn": (SERIES, {"enter": 12, "inner": 10, "hidden": 9}),
    "Cells": (SERIES, {"enter": 12, "long": 10, "short": 8}),
    "attention": (SERIES, {"enter": 16, "attend": 4, "up": 24}),
    "attention_with_weights": (SERIES, {"enter": 16, "attend": 4, "up": 24}),
    "Crossed": (SERIES, {"enter": 16, "keys": 12, "values": 20, "attend": 4, "attend.out_proj": 16}),
}
