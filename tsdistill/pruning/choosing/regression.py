"""Targets predicted from the features that are kept, while features leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_WIDE = 1536
_SMALL = 64


@dataclass(frozen=True, eq=False)
class Part:
    """Nodes of one group at one site: node ``nodes[k]`` holds the features ``features[k]`` (``[n, m]``)."""

    nodes: np.ndarray
    features: np.ndarray


class Regression:
    """A ridge regression from which features are taken one after the other.

    With G the ridged second moments of the features, C = cov(targets, features) and targets weighted by Ω,
    the state is P = G⁻¹ and Q = P Cᵀ Ω C P over the features that are kept. Removing the features k raises
    the weighted penalised residual by exactly tr(P_kk⁻¹ Q_kk), which is the optimal-brain-surgeon score
    when the targets are the features themselves. Single precision above 1,536 features.
    """

    def __init__(self, precision: np.ndarray, gram: np.ndarray, parts: Sequence[Part]) -> None:
        kind = np.float32 if precision.shape[0] > _WIDE else np.float64
        self._p: np.ndarray[Any, np.dtype[Any]] = np.array(precision, dtype=kind, order="C")
        self._q: np.ndarray[Any, np.dtype[Any]] = np.array(gram, dtype=kind, order="C")
        self._parts = [part for part in parts if len(part.nodes)]
        self._alive = np.zeros(len(precision), dtype=bool)
        for part in self._parts:
            self._alive[part.features] = True

    def increments(self, size: int) -> np.ndarray:
        """What removing each node alone would cost, float64 ``[size]`` (0 for nodes that are not here)."""
        total = np.zeros(size)
        for part in self._parts:
            if part.features.shape[1] == 1:
                index = part.features[:, 0]
                total[part.nodes] += self._q.diagonal()[index].astype(np.float64) / self._p.diagonal()[index]
                continue
            rows, columns = part.features[:, :, None], part.features[:, None, :]
            blocks = np.linalg.solve(self._p[rows, columns], self._q[rows, columns])
            total[part.nodes] += np.trace(blocks, axis1=1, axis2=2)
        return np.maximum(total, 0.0)

    def remove(self, nodes: Sequence[int] | np.ndarray) -> float:
        """Remove nodes together; returns what that costs."""
        gone = np.isin(self._nodes(), nodes) if self._parts else np.zeros(0, dtype=bool)
        out_parts, kept, start = [], [], 0
        for part in self._parts:
            here = gone[start : start + len(part.nodes)]
            start += len(part.nodes)
            out_parts.append(part.features[here].reshape(-1))
            kept.append(Part(part.nodes[~here], part.features[~here]))
        out = np.concatenate(out_parts) if out_parts else np.zeros(0, dtype=np.int64)
        if out.size == 0:
            return 0.0
        self._parts = [part for part in kept if len(part.nodes)]
        return max(self._downdate(out), 0.0)

    def restrict(self, nodes: np.ndarray) -> Regression:
        """The same for deciding among ``nodes`` only: exact, and as small as they are."""
        picked, parts, start = [], [], 0
        for part in self._parts:
            here = np.isin(part.nodes, nodes)
            features = part.features[here]
            picked.append(features.reshape(-1))
            parts.append(Part(part.nodes[here], start + np.arange(features.size).reshape(features.shape)))
            start += features.size
        index = np.concatenate(picked) if picked else np.zeros(0, dtype=np.int64)
        table = np.ix_(index, index)
        return Regression(self._p[table].astype(np.float64), self._q[table].astype(np.float64), parts)

    def _nodes(self) -> np.ndarray:
        return np.concatenate([part.nodes for part in self._parts])

    def _downdate(self, out: np.ndarray) -> float:
        """P ← P − P_:k P_kk⁻¹ P_k: and Q alike, in place."""
        p, q = self._p, self._q
        cross, mixed = p[:, out], q[:, out]
        corner, inner = p[np.ix_(out, out)], q[np.ix_(out, out)]
        if out.size == 1:
            move = cross / corner
            cost = float(inner[0, 0] / corner[0, 0])
        else:
            move = np.linalg.solve(corner, cross.T).T
            cost = float(np.trace(np.linalg.solve(corner, inner)))
        change = mixed - 0.5 * (move @ inner)
        if len(p) <= _SMALL:
            p -= move @ cross.T
            half = change @ move.T
            q -= half
            q -= half.T
        else:
            left = torch.from_numpy(np.concatenate([change, move], axis=1))
            right = torch.from_numpy(np.concatenate([move, change], axis=1))
            torch.from_numpy(p).addmm_(torch.from_numpy(move), torch.from_numpy(cross).T, alpha=-1)
            torch.from_numpy(q).addmm_(left, right.T, alpha=-1)
        for matrix in (p, q):
            matrix[out] = 0.0
            matrix[:, out] = 0.0
        p[out, out] = 1.0
        self._alive[out] = False
        self._compact()
        return cost

    def _compact(self) -> None:
        """Drop what has left, once that is half."""
        size = len(self._p)
        if size <= _SMALL or 2 * int(self._alive.sum()) > size:
            return
        keep = np.flatnonzero(self._alive)
        number = np.cumsum(self._alive) - 1
        table = np.ix_(keep, keep)
        self._p, self._q = self._p[table], self._q[table]
        self._parts = [Part(part.nodes, number[part.features]) for part in self._parts]
        self._alive = np.ones(len(keep), dtype=bool)


class Toll:
    """What nodes cost whatever else leaves; stands beside the regressions of an elimination."""

    def __init__(self, costs: np.ndarray) -> None:
        """Take the costs, float64 ``[nodes]``."""
        self._costs = costs.copy()

    def increments(self, size: int) -> np.ndarray:
        """The costs; ``size`` is their number."""
        return self._costs[:size]

    def remove(self, nodes: Sequence[int] | np.ndarray) -> float:
        """Remove nodes; returns what that costs."""
        cost = float(self._costs[nodes].sum())
        self._costs[nodes] = 0.0
        return cost

    def restrict(self, nodes: np.ndarray) -> Toll:
        """The same for ``nodes`` only."""
        costs = np.zeros_like(self._costs)
        costs[nodes] = self._costs[nodes]
        return Toll(costs)
