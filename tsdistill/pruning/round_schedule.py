"""In how many rounds a budget is reached, and how far each goes."""

from __future__ import annotations

from math import ceil, log

from tsdistill.errors import TsdistillError

STEP = 0.7
"""The part that a round keeps, when nobody says how many rounds there are to be."""

MOST = 8
"""Rounds at most, when nobody says how many."""

MOST_GIVEN = 1000
"""Rounds at most that can be asked for. A thousand keep 99.93 % each on the way to half; more cut
hardly anything each, and a slip of the keyboard filled the memory with limits before the first began."""


def rounds_for(part: float, given: int | None, realign: bool) -> int:
    """Number of rounds: the one given, else as many as let each keep about seven tenths.

    Without re-alignment a second look at the network brings nothing, so that there is one.

    Args:
        part: of the whole that is kept in the end.
        given: what the user says.
        realign: whether rounds end with re-alignment.

    Raises:
        TsdistillError: a number of rounds below 1 or above `MOST_GIVEN`.
    """
    if given is not None:
        if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST_GIVEN:
            raise TsdistillError(
                f"rounds takes a whole number of at least 1 and at most {MOST_GIVEN}, not {given!r}"
            )
        return given
    if not realign or part >= 1:
        return 1
    return min(MOST, max(1, ceil(log(part) / log(STEP) - 0.01)))


def limits(whole: float, last: float, rounds: int) -> list[float]:
    """The amount that is left after each round, from ``whole`` down to ``last`` in equal ratios."""
    part = last / whole
    return [whole * part ** (number / rounds) for number in range(1, rounds)] + [last]
