"""Losses and their weights, as options name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tsdistill.errors import TsdistillError
from tsdistill.printable import printable


def losses(value: Any, at: str = "") -> dict[str, float]:
    """``"a + 0.5*b"``, a list of such or a mapping to weights, as loss -> weight.

    Raises:
        TsdistillError: it is none of these, a loss comes twice, or a weight is no number; ``at`` (a place,
            with its colon) is in the message.
    """
    if isinstance(value, Mapping):
        pairs = [(str(key), weight) for key, weight in value.items()]
    elif isinstance(value, (str, list, tuple)):
        texts = [value] if isinstance(value, str) else value
        pairs = []
        for part in (part for text in texts for part in str(text).split("+")):
            weight, star, rest = part.partition("*")
            pairs.append((rest.strip(), weight.strip()) if star else (part.strip(), 1.0))
    else:
        raise TsdistillError(
            f"{at}loss is text, a list or a table of weights, not {printable(repr(value), 60)}"
        )
    found: dict[str, float] = {}
    for name, weight in pairs:
        if name in found:
            raise TsdistillError(f"{at}the loss {name} is given twice; give it once, with one weight")
        try:
            found[name] = float(weight)
        except (TypeError, ValueError):
            raise TsdistillError(
                f"{at}the weight of the loss {name} is a number, not {printable(repr(weight), 60)}"
            ) from None
    return found
