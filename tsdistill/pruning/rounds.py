"""In how many rounds a model is pruned, and what each of them keeps."""

from __future__ import annotations

from math import ceil, log

STEP = 0.2
"""The least part that a round keeps, when nobody says how many rounds there are to be. On small networks at
0.5, 0.3 and 0.2 of their MACs, one round in place of two to five left the output error where it was (0.89 to
1.02 times) at a fifth to a half of the cost."""

MOST = 8
"""Rounds at most, when nobody says how many."""


def rounds_for(part: float, rounds: int | None, realign: bool) -> int:
    """Number of rounds: the one given, else as many as let each keep a fifth.

    Without re-alignment a second look at the network brings nothing, so that there is one.

    Args:
        part: of the whole that is kept in the end.
        rounds: what the user says.
        realign: whether rounds end with re-alignment.
    """
    if rounds is not None:
        return rounds
    if not realign or part >= 1:
        return 1
    return min(MOST, max(1, ceil(log(part) / log(STEP) - 0.01)))


def limits(whole: float, last: float, rounds: int) -> list[float]:
    """The amount that is left after each round, from ``whole`` down to ``last`` in equal ratios."""
    part = last / whole
    return [whole * part ** (number / rounds) for number in range(1, rounds)] + [last]
