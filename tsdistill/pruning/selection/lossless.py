"""Only what costs nothing: the nodes whose loss leaves the function as it is."""

from __future__ import annotations

import numpy as np

from tsdistill.alignment.report import AlignmentReport
from tsdistill.pruning.selection.constraints import WidthConstraints
from tsdistill.pruning.selection.greedy import Choice


def free_choices(report: AlignmentReport, constraints: WidthConstraints) -> dict[str, Choice]:
    """Per group all of its free nodes, less those that ``constraints`` ask to keep."""
    choices = {}
    for group in report.groups:
        free = np.flatnonzero(group.free)
        least = max(constraints.floors[group.name], group.size - len(free))
        kept = constraints.below(group.name, least)
        if kept < least:
            kept = constraints.above(group.name, kept)
        choices[group.name] = Choice(
            free[: group.size - kept],
            np.zeros(group.size - kept),
            np.ones(group.size - kept, dtype=bool),
        )
    return choices
