"""Many networks in a few numbers: L-shaped curves, rank correlations, and what JSON should hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata
from torch import Tensor

ALIGNED = 0.9
"""Correlation from which on a student node counts as aligned with a teacher node."""
EDGES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Of the bins of correlation by which an L-shaped curve is summed up; those below 0 go to the first."""


def rank_correlation(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Spearman's coefficient with ties at their mean rank; NaN where one of them is constant."""
    ranks = [rankdata(each) for each in (a, b)]
    if any(np.ptp(each) == 0 for each in ranks):
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def mean(values: Sequence[float]) -> float:
    """Mean of those that are numbers; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def l_curve(correlation: Tensor, strength: Tensor) -> dict[str, Any]:
    """An L-shaped curve in bins of correlation.

    Args:
        correlation: of each student node with its best teacher node, any shape.
        strength: of each student node, the same shape.

    Returns:
        ``count`` and quartiles ``low``, ``median``, ``high`` of the strength for each bin between `EDGES`
        (``None`` where it is empty); ``unaligned``: the share of all squared strength that nodes below
        `ALIGNED` have; ``ratio``: median strength of nodes below 0.5 over that of aligned ones (``None`` if
        there are none of either).
    """
    x = correlation.flatten().double().clamp(0, 1).numpy()
    y = strength.flatten().double().numpy()
    place = np.clip(np.digitize(x, EDGES) - 1, 0, len(EDGES) - 2)
    bins = [y[place == k] for k in range(len(EDGES) - 1)]
    low, aligned, total = y[x < 0.5], y[x >= ALIGNED], float((y**2).sum())
    return {
        "count": [len(each) for each in bins],
        **{
            name: [rounded(np.quantile(each, q)) if len(each) else None for each in bins]
            for name, q in (("low", 0.25), ("median", 0.5), ("high", 0.75))
        },
        "unaligned": rounded((y[x < ALIGNED] ** 2).sum() / total if total else 0.0),
        "ratio": rounded(np.median(low) / np.median(aligned)) if len(low) and len(aligned) else None,
    }


def some_points(correlation: Tensor, strength: Tensor, count: int) -> list[list[float]]:
    """At most ``count`` points [correlation, strength] of those there are, at even distances."""
    x, y = correlation.flatten(), strength.flatten()
    step = max(1, -(-len(x) // count))
    return [[rounded(a), rounded(b)] for a, b in zip(x[::step].tolist(), y[::step].tolist(), strict=True)]


def rounded(value: Any, digits: int = 4) -> Any:
    """Numbers, and lists and tensors of them, with so many significant digits; ``None`` for NaN."""
    if isinstance(value, Tensor | np.ndarray):
        return rounded(value.tolist(), digits)
    if isinstance(value, list | tuple):
        return [rounded(each, digits) for each in value]
    if isinstance(value, bool | int) or value is None:
        return value
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
