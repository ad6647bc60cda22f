"""What options take, as types that parse it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import click


class Parsed(click.ParamType):
    """A value that a function parses; a usage error where it raises ``ValueError``.

    Args:
        name: of the type.
        parse: from the text to the value.
        words: what the text is to be, for the message.
    """

    def __init__(self, name: str, parse: Callable[[str], Any], words: str) -> None:
        self.name, self._parse, self._words = name, parse, words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; one that is no text is returned as it is."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError:
            self.fail(f"{value!r} is {self._words}", param, ctx)


def _count(text: str) -> int:
    """A whole number from 1 to 999,999,999, in ASCII digits."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise ValueError
    return int(text)


def _size(text: str) -> tuple[int, ...]:
    return tuple(map(_count, re.split(r"[x,]", text.strip().lower())))


def _figures(text: str) -> tuple[float, ...]:
    figures = tuple(map(float, text.split(",")))
    if not all(map(math.isfinite, figures)):
        raise ValueError
    return figures


def _pair(text: str) -> tuple[str, str]:
    first, second = (part.strip() for part in text.split("="))
    if not (first and second):
        raise ValueError
    return first, second


def _positions(text: str) -> str | int:
    text = text.strip().lower()
    return text if text in ("auto", "all") else _count(text)


def _named(text: str) -> dict[str, str]:
    name, _, amount = (part.strip() for part in text.partition("="))
    if not (name and amount):
        raise ValueError
    return {name: amount}


SIZE = Parsed("size", _size, "not a size such as 3x224x224, 224 or (vectors) 64")
"""``3x224x224`` (also with commas) as a tuple of positive ints."""

FIGURES = Parsed("figures", _figures, "not a list of figures such as 0.485,0.456,0.406")
"""``0.485,0.456,0.406`` as a tuple of floats."""

PAIR = Parsed("pair", _pair, "not a pair such as layer1.0.conv1=layer2.0.conv1")
"""``STUDENT_GROUP=TEACHER_GROUP`` as a tuple of two names."""

POSITIONS = Parsed("positions", _positions, "none of auto, all and a number of positions from 1")
"""``auto``, ``all`` or a number of positions."""

NAMED = Parsed("named", _named, "not NAME=VALUE such as energy=0.5")
"""``NAME=VALUE`` as a mapping of one entry."""
