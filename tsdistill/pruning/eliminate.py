"""Backward elimination: in which order nodes leave so that the targets stay predictable, and what each costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

_WIDE = 1536


@dataclass(frozen=True, eq=False)
class Part:
    """Nodes of one group at one site: node ``nodes[k]`` holds the features ``features[k]`` (int64 ``[n, m]``)."""

    nodes: np.ndarray
    features: np.ndarray


class Regression:
    """Targets predicted from the features that are kept, under a ridge.

    With G the features' (ridged) second moments, C = cov(targets, features) and targets weighted by Ω, the state is
    P = G⁻¹ and Q = P Cᵀ Ω C P over the kept features; both shrink when features leave. Removing the features k
    raises the weighted penalised residual by exactly tr(P_kk⁻¹ Q_kk). Single precision above 1,536 features.
    """

    def __init__(self, precision: np.ndarray, gram: np.ndarray, parts: Sequence[Part]) -> None:
        kind = np.float32 if precision.shape[0] > _WIDE else np.float64
        self._p = precision.astype(kind, copy=False)
        self._q = gram.astype(kind, copy=False)
        self._parts = tuple(part for part in parts if len(part.nodes))

    def increments(self, size: int) -> np.ndarray:
        """What removing each node alone would cost, float64 ``[size]`` (0 for nodes that are not here)."""
        total = np.zeros(size)
        for part in self._parts:
            if part.features.shape[1] == 1:
                index = part.features[:, 0]
                p, q = np.diagonal(self._p)[index], np.diagonal(self._q)[index]
                total[part.nodes] += q.astype(np.float64) / p
                continue
            rows, columns = part.features[:, :, None], part.features[:, None, :]
            blocks = np.linalg.solve(self._p[rows, columns], self._q[rows, columns])
            total[part.nodes] += np.trace(blocks, axis1=1, axis2=2)
        return np.maximum(total, 0.0)

    def remove(self, gone: np.ndarray) -> float:
        """Remove the nodes with ``gone[node]``; returns what that costs."""
        features = [part.features[gone[part.nodes]].reshape(-1) for part in self._parts]
        out = np.concatenate(features) if features else np.zeros(0, dtype=np.int64)
        if out.size == 0:
            return 0.0
        stay = np.ones(self._p.shape[0], dtype=bool)
        stay[out] = False
        keep = np.flatnonzero(stay)
        cross = self._p[np.ix_(keep, out)]
        inner = self._q[np.ix_(out, out)]
        step = linalg.solve(
            self._p[np.ix_(out, out)], np.concatenate([cross.T, inner], axis=1), assume_a="pos"
        )
        move, cost = step[:, : keep.size].T, float(np.trace(step[:, keep.size :]))
        mixed = self._q[np.ix_(keep, out)]
        self._p = self._p[np.ix_(keep, keep)] - move @ cross.T
        change = (mixed - 0.5 * move @ inner) @ move.T
        self._q = self._q[np.ix_(keep, keep)] - change - change.T
        renumbered = np.cumsum(stay) - 1
        parts = []
        for part in self._parts:
            here = ~gone[part.nodes]
            parts.append(Part(part.nodes[here], renumbered[part.features[here]]))
        self._parts = tuple(part for part in parts if len(part.nodes))
        return max(cost, 0.0)

    def restrict(self, chosen: np.ndarray) -> Regression:
        """The same, for deciding among the nodes with ``chosen[node]`` only: exact, and as small as they are."""
        picked, parts, start = [], [], 0
        for part in self._parts:
            here = chosen[part.nodes]
            features = part.features[here]
            picked.append(features.reshape(-1))
            parts.append(Part(part.nodes[here], start + np.arange(features.size).reshape(features.shape)))
            start += features.size
        index = np.concatenate(picked) if picked else np.zeros(0, dtype=np.int64)
        table = np.ix_(index, index)
        return Regression(self._p[table], self._q[table], parts)


def eliminate(
    regressions: Sequence[Regression],
    owner: np.ndarray,
    floors: np.ndarray,
    savings: np.ndarray,
    free: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Remove nodes one after the other, always the one that costs least for what it saves.

    Groups of more than a hundred nodes leave about a hundredth at a time: the four times as many cheapest nodes
    compete one by one, and the rest is brought up to date once for all that have won.

    Args:
        regressions: one per site that reads any of the nodes; used up.
        owner: int ``[nodes]``, the group of each node.
        floors: int ``[groups]``, how many nodes of each group stay.
        savings: float ``[nodes]``, what removing a node saves, in any unit.
        free: bool ``[nodes]``, nodes whose removal is known to cost nothing; they leave first.

    Returns:
        the order in which nodes leave (int64), and the cost of each (float64).
    """
    size = len(owner)
    left = np.bincount(owner, minlength=len(floors))
    order: list[int] = []
    costs: list[float] = []
    alive = np.ones(size, dtype=bool)
    for node in np.flatnonzero(free):
        if left[owner[node]] > floors[owner[node]]:
            left[owner[node]] -= 1
            alive[node] = False
            order.append(int(node))
            costs.append(0.0)
    for regression in regressions:
        regression.remove(~alive)
    chunk = max(1, size // 100)
    while True:
        able = alive & (left > floors)[owner]
        if not able.any():
            return np.array(order, dtype=np.int64), np.array(costs)
        ratio = np.full(size, np.inf)
        ratio[able] = (_increments(regressions, size) / savings)[able]
        if chunk == 1:
            gone, spent = [int(ratio.argmin())], None
        else:
            count = min(int(able.sum()), 4 * chunk)
            chosen = np.zeros(size, dtype=bool)
            chosen[np.argpartition(ratio, count - 1)[:count]] = True
            gone, spent = _among(regressions, chosen & able, owner, left.copy(), floors, savings, chunk)
        flags = np.zeros(size, dtype=bool)
        flags[gone] = True
        total = sum(regression.remove(flags) for regression in regressions)
        alive &= ~flags
        np.subtract.at(left, owner[gone], 1)
        order += gone
        costs += spent if spent is not None else [total]


def _increments(regressions: Sequence[Regression], size: int) -> np.ndarray:
    total = np.zeros(size)
    for regression in regressions:
        total += regression.increments(size)
    return total


def _among(
    regressions: Sequence[Regression],
    chosen: np.ndarray,
    owner: np.ndarray,
    left: np.ndarray,
    floors: np.ndarray,
    savings: np.ndarray,
    count: int,
) -> tuple[list[int], list[float]]:
    """Up to ``count`` of the ``chosen`` nodes, removed one by one, and their costs."""
    numbers = np.flatnonzero(chosen)
    small = [regression.restrict(chosen) for regression in regressions]
    alive = chosen.copy()
    order: list[int] = []
    costs: list[float] = []
    while len(order) < count:
        able = numbers[alive[numbers] & (left > floors)[owner[numbers]]]
        if able.size == 0:
            break
        costs_now = _increments(small, len(chosen))[able]
        best = int((costs_now / savings[able]).argmin())
        node = int(able[best])
        gone = np.zeros(len(chosen), dtype=bool)
        gone[node] = True
        for regression in small:
            regression.remove(gone)
        alive[node] = False
        left[owner[node]] -= 1
        order.append(node)
        costs.append(float(costs_now[best]))
    return order, costs
