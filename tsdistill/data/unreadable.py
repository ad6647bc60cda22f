"""Samples that cannot be read: which, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tsdistill.errors import TsdistillError

NAMED = 3
"""So many are named in a note: enough to see what they have in common, few enough for a line or two."""


class Failure(str):
    """The message of an error, carried from a worker process as a value."""


class Unreadable:
    """The samples of a source that could not be read so far.

    Args:
        strict: the first of them is an error.
    """

    def __init__(self, strict: bool = False) -> None:
        self._strict = strict
        self._complaints: dict[int, str] = {}

    def sift(self, items: Sequence[Any], first: int) -> list[Any]:
        """The samples that could be read.

        Args:
            items: samples, or `Failure` in place of one.
            first: the position of the first of them in the source's order.

        Raises:
            TsdistillError: one could not be read and that is an error.
        """
        for place, item in enumerate(items, start=first):
            if isinstance(item, Failure):
                self._complaints[place] = " ".join(item.split())
                if self._strict:
                    raise TsdistillError(self._complaints[place])
        return [item for item in items if not isinstance(item, Failure)]

    def between(self, first: int, stop: int | None) -> list[str]:
        """What was wrong with the samples from position ``first`` to ``stop``, in their order."""
        return [
            complaint
            for place, complaint in sorted(self._complaints.items())
            if place >= first and (stop is None or place < stop)
        ]


def left_out(complaints: Sequence[str], samples: int | None) -> str:
    """A note on samples that were left out; empty where there are none.

    Args:
        complaints: what was wrong with each.
        samples: how many there are with them, ``None`` when that is not known.
    """
    if not complaints:
        return ""
    of = "" if samples is None else f" of {samples}"
    more = f"; and {len(complaints) - NAMED} more" if len(complaints) > NAMED else ""
    return (
        f"{len(complaints)}{of} samples could not be read and are left out (strict: an error): "
        f"{'; '.join(complaints[:NAMED])}{more}"
    )
