"""The L-shaped curve's data: per node its best similarity and its fan-out norm, and the same in bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tsdistill.alignment.report import GroupReport

EDGES = (-1.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Default edges of the bins of similarity, from -1 to 1: narrower towards 1, where aligned nodes differ."""


@dataclass(frozen=True)
class Bin:
    """Nodes whose similarity to their best match lies between ``low`` and ``high``.

    Attributes:
        low: lower edge, included.
        high: upper edge, excluded but for the last bin.
        count: number of nodes.
        median: median fan-out norm of the standardised node, ‖v_k‖·σ_k; 0 without nodes.
        largest: its maximum; 0 without nodes.
    """

    low: float
    high: float
    count: int
    median: float
    largest: float


def bins(group: GroupReport, edges: Sequence[float] = EDGES) -> list[Bin]:
    """The L-shaped curve of a group in bins of similarity, the least aligned nodes first.

    Nodes below the first edge count in the first bin.
    """
    intervals = []
    for low, high in pairwise(edges):
        below = group.similarity < high if high != edges[-1] else np.ones(group.size, bool)
        above = group.similarity >= low if low != edges[0] else np.ones(group.size, bool)
        norms = group.standardised_norm[above & below]
        median, largest = (float(np.median(norms)), float(norms.max())) if len(norms) else (0.0, 0.0)
        intervals.append(Bin(low, high, len(norms), median, largest))
    return intervals
