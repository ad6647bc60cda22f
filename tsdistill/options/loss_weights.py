"""Losses and their weights, as options name them.

Plugins are imported when a loss is named, so that ``--help`` is quick.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tsdistill.errors import TsdistillError
from tsdistill.printable import printable


def weighted_losses(value: Any, at: str = "") -> dict[str, float]:
    """``"a + 0.5*b"``, a loss itself, a list of such or a mapping to weights, as loss -> weight.

    Raises:
        TsdistillError: it is none of these, a loss comes twice, or a weight is no number; ``at`` (a place,
            with its colon) is in the message.
    """
    from tsdistill.plugins import name_of

    if isinstance(value, Mapping):
        pairs = [
            (name_of(key) if callable(key) or isinstance(key, str) else str(key), weight)
            for key, weight in value.items()
        ]
    elif callable(value):
        pairs = [(name_of(value), 1.0)]
    elif isinstance(value, (str, list, tuple)):
        texts = [value] if isinstance(value, str) else value
        if not all(isinstance(text, str) or callable(text) for text in texts):
            raise TsdistillError(f"{at}loss is a list of other things than text; write names of losses")
        pairs = [(name_of(loss), 1.0) for loss in texts if callable(loss)]
        for part in (part for text in texts if isinstance(text, str) for part in text.split("+")):
            weight, star, rest = part.partition("*")
            pairs.append((rest.strip(), weight.strip()) if star else (part.strip(), 1.0))
    else:
        raise TsdistillError(f"{at}loss is text, a list or a table of weights, not {_shown(value)}")
    weights: dict[str, float] = {}
    for name, weight in pairs:
        if name in weights:
            raise TsdistillError(f"{at}the loss {name} is given twice; give it once, with one weight")
        weights[name] = _number(weight)
        if not math.isfinite(weights[name]):
            raise TsdistillError(f"{at}the weight of the loss {name} is a number, not {_shown(weight)}")
    return weights


def _number(value: Any) -> float:
    """The number that ``value`` is or spells; NaN for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _shown(value: Any) -> str:
    """A value for a message; of containers and huge numbers the type."""
    if isinstance(value, (str, float)):
        return printable(repr(value), 60)
    return f"a {type(value).__name__}"
