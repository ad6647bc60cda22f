"""The L-shaped curve's data: per node its best correlation and its fan-out norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ALIGNED = 0.9
EDGES = (-1.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True, eq=False)
class Curve:
    """The nodes of one group on the L-shaped curve (arXiv 1909.13458, Fig. 5).

    Attributes:
        name: the group.
        best: float ``[nodes]``: similarity to the best-matching teacher node.
        norm: float ``[nodes]``: fan-out norm of the standardised node, ‖v_k‖·σ_k.
        strength: float ``[nodes]``: scale-free strength s_k.
    """

    name: str
    best: np.ndarray
    norm: np.ndarray
    strength: np.ndarray


@dataclass(frozen=True)
class Bin:
    """Nodes whose best similarity lies between ``low`` and ``high``.

    Attributes:
        low: lower edge, included.
        high: upper edge, excluded but for the last bin.
        count: number of nodes.
        median: median fan-out norm of the standardised node; 0 without nodes.
        largest: its maximum; 0 without nodes.
    """

    low: float
    high: float
    count: int
    median: float
    largest: float


def bins(curve: Curve, edges: Sequence[float] = EDGES) -> list[Bin]:
    """The curve in bins of similarity, from the least to the most aligned nodes."""
    found = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        last = high == edges[-1]
        inside = (curve.best >= low) & ((curve.best <= high) if last else (curve.best < high))
        norms = curve.norm[inside]
        median, largest = (float(np.median(norms)), float(norms.max())) if len(norms) else (0.0, 0.0)
        found.append(Bin(low, high, len(norms), median, largest))
    return found
