"""Widths that a forward takes from one another: ``x.reshape(B, N, C)`` with the C of another tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tsdistill.tracing.record import Record
from tsdistill.tracing.repair import Stale

Tie = tuple[np.ndarray, np.ndarray]
"""Labels that have to go together, element by element."""


def ties(record: Record, stale: Sequence[Stale], gone: np.ndarray) -> list[Tie]:
    """What explains the stale numbers that no attribute does: another width that lost just as many nodes.

    A module that reads ``C`` off its input and gives it (or ``C // heads``) to a reshape of something else
    ties both widths. What goes from the one has to go from the other, so that coordinate by coordinate they
    become one.

    Args:
        record: of the whole model.
        stale: operators that got a number which the cut does not explain.
        gone: for every node whether it goes.
    """
    found: list[Tie] = []
    for item in stale:
        for _, _, labels in item.step.sizes:
            if int(record.keeps(labels, gone).sum()) != item.wanted:
                continue
            tie = next(_sources(record, item, labels, gone), None)
            if tie is not None:
                found.append(tie)
    return found


def _sources(record: Record, item: Stale, labels: np.ndarray, gone: np.ndarray) -> Iterator[Tie]:
    """Widths met in the same module before, of which as many coordinates are left as were given."""
    size = len(labels)
    for step in reversed(record.trace.steps[: record.trace.steps.index(item.step)]):
        if step.module != item.step.module and not step.module.startswith(f"{item.step.module}."):
            continue
        for other in step.touched:
            kept = int(record.keeps(other, gone).sum())
            if kept == len(other) or len(other) % size or other is labels:
                continue
            times = len(other) // size
            if kept // times == item.given and not np.array_equal(other, labels):
                yield other, np.tile(labels, times)
