"""Checks of a width in Python code, such as ``assert x.shape[1] == self.channels``, that stop a cut model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tsdistill.tracing.replay import CutRun, ReplayResult
from tsdistill.tracing.shape_attributes import resized

_NEAR = 12
"""Number of steps of the trace, before the failed check and behind it, whose widths it may be about."""

_TRIES = 16
"""Number of attributes that are tried for one check: each costs a forward up to the check."""

ChangedAttribute = tuple[str, str, Any, list[np.ndarray]]
"""``(owner of the attribute, attribute, its old value, labels that are counted)``."""


def satisfy_assertions(run: CutRun, result: ReplayResult) -> tuple[list[ChangedAttribute], ReplayResult]:
    """Set the attributes by which checks in the code of a cut model expect the old widths.

    A check compares a number that it has just read off a module with the shape of a tensor. Where the code
    raises, the attributes that it read last are tried, latest first, at the width that the cut gives to a
    tensor near by; one is kept if the code then comes further.

    Args:
        run: of the cut model; attributes are set in place.
        result: the last replay.

    Returns:
        The attributes that were set, in order, and the replay after that (``result`` where none was).
    """
    passed: list[ChangedAttribute] = []
    while result.broken is not None:
        watched = run.replay(watch=True)
        done = {(owner, name) for owner, name, _, _ in passed}
        for owner, name, value, labels in _candidates(run, watched):
            if (owner, name) in done:
                continue
            module = run.model.get_submodule(owner)
            old = getattr(module, name)
            setattr(module, name, value)
            after = run.replay()
            if _further(watched, after):
                passed.append((owner, name, old, [labels]))
                result = after
                break
            setattr(module, name, old)
        else:
            break
    return passed, result


def _further(before: ReplayResult, after: ReplayResult) -> bool:
    if after.broken is None or after.reached != before.reached:
        return after.broken is None or after.reached > before.reached
    return (after.broken, after.place) != (before.broken, before.place)


def _candidates(run: CutRun, watched: ReplayResult) -> Iterator[tuple[str, str, Any, np.ndarray]]:
    """``(owner, attribute, new value, labels)``: attributes that hold a width as it was first, those that
    hold a multiple or a part of one behind them."""
    widths = _widths_near(run, watched)
    later, count = [], 0
    for owner, name in watched.read:
        value = getattr(run.model.get_submodule(owner), name)
        for (width, wanted), labels in widths.items():
            result = resized(value, width, {width: wanted})
            if result is None:
                continue
            candidate = owner, name, result[0], labels
            if not result[1]:
                later.append(candidate)
            elif count < _TRIES:
                count += 1
                yield candidate
    yield from later[: _TRIES - count]


def _widths_near(run: CutRun, watched: ReplayResult) -> dict[tuple[int, int], np.ndarray]:
    """``(width before, width after the cut)`` of tensors that operators near the check touch; widths that the
    code has asked a tensor for first, then by distance."""
    steps, at = run.record.trace.steps, watched.reached
    places = sorted(range(max(at - _NEAR, 0), min(at + _NEAR, len(steps))), key=lambda place: abs(place - at))
    widths: dict[tuple[int, int], np.ndarray] = {}
    for place in places:
        for labels in steps[place].touched:
            wanted = run.count(labels)
            if wanted != len(labels):
                widths.setdefault((len(labels), wanted), labels)
    asked = sorted(widths, key=lambda width: width[1] not in watched.seen)
    return {width: widths[width] for width in asked}
