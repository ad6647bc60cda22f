"""Values of options as their declared types have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tsdistill.errors import TsdistillError
from tsdistill.evaluation.layout import parse_stated

_WORDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}


def as_declared(name: str, kind: str, value: Any, at: str = "") -> Any:
    """``value`` as the type ``kind``, an annotation such as ``"int | None"``.

    Raises:
        TsdistillError: it cannot be one; ``name`` and ``at`` (a place, with its colon) are in the message.
    """
    kinds = [each.strip() for each in kind.split("|")]
    if value is None and "None" in kinds:
        return None
    first = kinds[0]
    if first.startswith("Mapping"):
        if name == "loss":
            return _losses(value, at)
        if name == "outputs":
            return parse_stated(value, at)
        if isinstance(value, Mapping):
            return {str(key): each for key, each in value.items()}
        raise TsdistillError(f"{at}{name} is a table of options, not {value!r}")
    fits = {
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, (int, float)) and not isinstance(value, bool),
        "str": isinstance(value, str),
    }[first]
    if not fits:
        raise TsdistillError(f"{at}{name} is {_WORDS[first]}, not {value!r}")
    return float(value) if first == "float" else value


def _losses(value: Any, at: str) -> dict[str, float]:
    """``"a + 0.5*b"``, a list of such or a mapping to weights, as loss -> weight."""
    if isinstance(value, Mapping):
        pairs = [(str(key), weight) for key, weight in value.items()]
    elif isinstance(value, (str, list, tuple)):
        texts = [value] if isinstance(value, str) else value
        pairs = []
        for part in (part for text in texts for part in str(text).split("+")):
            weight, star, rest = part.partition("*")
            pairs.append((rest.strip(), weight.strip()) if star else (part.strip(), 1.0))
    else:
        raise TsdistillError(f"{at}loss is text, a list or a table of weights, not {value!r}")
    found: dict[str, float] = {}
    for name, weight in pairs:
        if name in found:
            raise TsdistillError(f"{at}the loss {name} is given twice; give it once, with one weight")
        try:
            found[name] = float(weight)
        except (TypeError, ValueError):
            raise TsdistillError(f"{at}the weight of the loss {name} is a number, not {weight!r}") from None
    return found
