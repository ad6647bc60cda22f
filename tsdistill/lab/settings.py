"""What an experiment can be told, checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tsdistill.errors import TsdistillError

DTYPES = ("float32", "float64")


def option(default: Any, text: str) -> Any:
    """A field of a `Settings` class with the sentence that the command line shows for it."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """What every experiment can be told; each has a class of its own that adds fields (see `option`).

    Fields are numbers, text, flags or tuples of one kind of them; ``__post_init__`` checks them with
    `positive`, `not_negative` and `one_of`, so that a wrong value is one line before any work is done.
    """

    seed: int = option(0, "decides everything that is drawn")
    device: str = option("cpu", "where tensors live: cpu, cuda, cuda:1")
    dtype: str = option("float32", "precision of the networks: float32 or float64")

    def __post_init__(self) -> None:
        one_of(self, "dtype", DTYPES)


def positive(settings: Settings, *names: str) -> None:
    """Refuse a value, or an item of a list, that is not above zero.

    Raises:
        TsdistillError: one is not, or a list is empty.
    """
    _check(settings, names, lambda value: value > 0, "above 0")


def not_negative(settings: Settings, *names: str) -> None:
    """Refuse a value, or an item of a list, below zero.

    Raises:
        TsdistillError: one is, or a list is empty.
    """
    _check(settings, names, lambda value: value >= 0, "0 or more")


def one_of(settings: Settings, name: str, known: Sequence[str]) -> None:
    """Refuse text that is not known.

    Raises:
        TsdistillError: it is not among ``known``.
    """
    value = getattr(settings, name)
    if value not in known:
        raise TsdistillError(f"{flag(name)} {value}: there is {', '.join(known)}")


def flag(name: str) -> str:
    """A field's name as an option of the command line."""
    return "--" + name.replace("_", "-")


def _check(settings: Settings, names: Sequence[str], holds: Any, wanted: str) -> None:
    for name in names:
        given = getattr(settings, name)
        values = given if isinstance(given, tuple) else (given,)
        if not values:
            raise TsdistillError(f"{flag(name)}: the list is empty; give at least one number")
        for value in values:
            if not math.isfinite(value) or not holds(value):
                raise TsdistillError(f"{flag(name)} {value:g}: give numbers {wanted}")
