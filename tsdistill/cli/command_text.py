"""The ``tsdistill prune`` command that makes a cut that ``analyze`` predicts, on the same model and data."""

from __future__ import annotations

import shlex
from typing import Any

from tsdistill.options.data_options import BATCH_SIZE

OUT = "small.safetensors"

_TEXTS = ("arch", "input_size", "mean", "std", "interpolation", "example_input", "device", "data")
_READING = ("tokenizer", "length", "samples", "batch_size", "augment", "seed")
_DEFAULTS = {"device": "cpu", "batch_size": BATCH_SIZE, "seed": 0}
"""Values that are left out of the command because they are the defaults."""


def prune_command(model: str, params: dict[str, Any]) -> str:
    """The command, with ``{macs}`` where the budget stands.

    Args:
        model: as it was given to ``analyze``.
        params: the options of ``analyze`` that ``prune`` has too; those at their defaults are left out.
    """
    words = []
    for name in (*_TEXTS, *_READING):
        value = params[name]
        if value is not None and value != _DEFAULTS.get(name):
            words += [f"--{name.replace('_', '-')}", _text(value, "x" if name == "input_size" else ",")]
    if params["trust"]:
        words.append("--trust")
    return " ".join(
        ["tsdistill", "prune", shlex.quote(model), "--macs {macs}", "-o", OUT, *map(shlex.quote, words)]
    )


def _text(value: Any, separator: str) -> str:
    """An option's value as it is written."""
    return separator.join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)
