"""Targets predicted from the features that are kept, while features leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WIDE = 512
"""Features above which single precision is enough: there the inverse is of a ridged matrix."""

_SMALL = 64
"""Features up to which columns of removed features are not dropped: copying costs more than it saves."""

_ROOM = 64
"""Columns that are allocated at first, and at least."""

_Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Part:
    """Nodes of one group at one site: node ``nodes[k]`` holds the features ``features[k]`` (``[n, m]``)."""

    nodes: np.ndarray
    features: np.ndarray


@dataclass(frozen=True, eq=False)
class _Corners:
    """What P and Q are by now at the features of each node of a part, float64 ``[n, m, m]``."""

    part: Part
    p: np.ndarray
    q: np.ndarray

    def without(self, gone: np.ndarray) -> _Corners:
        """The same for the nodes that are not ``gone`` (bool ``[n]``)."""
        part = Part(self.part.nodes[~gone], self.part.features[~gone])
        return _Corners(part, self.p[~gone], self.q[~gone])

    def follow(self, move: _Array, cross: _Array, change: _Array) -> None:
        """Bring them up to date with a removal, whose columns are ``[removed, features]`` each."""
        index = self.part.features
        if index.shape[1] == 1:
            a, b, c = (each.take(index[:, 0], 1) for each in (move, cross, change))
            self.p[:, 0, 0] -= np.einsum("kn,kn->n", a, b)
            self.q[:, 0, 0] -= 2 * np.einsum("kn,kn->n", a, c)
            return
        a, b, c = (each[:, index].transpose(1, 2, 0) for each in (move, cross, change))
        self.p[...] -= a @ b.transpose(0, 2, 1)
        half = c @ a.transpose(0, 2, 1)
        self.q[...] -= half + half.transpose(0, 2, 1)


class OBSState:
    """A ridge regression from which features are taken one after the other.

    With G the ridged second moments of the features, C = cov(targets, features) and targets weighted by Ω,
    the state is P = G⁻¹ and Q = P Cᵀ Ω C P over the features that are kept. Removing the features k raises
    the weighted penalised residual by exactly tr(P_kk⁻¹ Q_kk), which is the optimal-brain-surgeon score
    when the targets are the features themselves. Single precision above 512 features.

    P and Q stay what they were at first. Each removal leaves three columns a feature behind,
    ``P − Σ move crossᵀ`` and ``Q − Σ (change moveᵀ + move changeᵀ)``, from which the columns of the next
    ones are made; only what belongs to single nodes is brought up to date at once.
    """

    def __init__(self, precision: np.ndarray, gram: np.ndarray, parts: Sequence[Part]) -> None:
        kind = np.float32 if precision.shape[0] > WIDE else np.float64
        self._p: _Array = np.asarray(precision, dtype=kind)
        self._q: _Array = np.asarray(gram, dtype=kind)
        self._corners = []
        for part in parts:
            if len(part.nodes):
                table = part.features[:, :, None], part.features[:, None, :]
                inner = [matrix[table].astype(np.float64) for matrix in (self._p, self._q)]
                self._corners.append(_Corners(part, *inner))
        self._used = 0
        self._steps: list[_Array] = [np.empty((len(precision), 0), dtype=kind)] * 3
        self._nodes = 1 + max((int(each.part.nodes.max()) for each in self._corners), default=-1)

    def increments(self, size: int) -> np.ndarray:
        """What removing each node alone would cost, float64 ``[size]`` (0 for nodes that are not here)."""
        total = np.zeros(size)
        for each in self._corners:
            if each.part.features.shape[1] == 1:
                total[each.part.nodes] += (each.q / each.p)[:, 0, 0]
            else:
                total[each.part.nodes] += np.einsum("nii->n", np.linalg.solve(each.p, each.q))
        return np.maximum(total, 0.0)

    def remove(self, nodes: Sequence[int] | np.ndarray) -> float:
        """Remove nodes together; returns what that costs."""
        gone = self._flags(nodes)
        out_parts, kept = [], []
        for each in self._corners:
            here = gone[each.part.nodes]
            if not here.any():
                kept.append(each)
                continue
            out_parts.append(each.part.features[here].reshape(-1))
            if not here.all():
                kept.append(each.without(here))
        if not out_parts:
            return 0.0
        self._corners = kept
        return max(self._leave(np.concatenate(out_parts)), 0.0)

    def restrict(self, nodes: np.ndarray) -> OBSState:
        """The same for deciding among ``nodes`` only: exact, and as small as they are."""
        wanted = self._flags(nodes)
        picked, parts, start = [], [], 0
        for each in self._corners:
            here = wanted[each.part.nodes]
            features = each.part.features[here]
            picked.append(features.reshape(-1))
            parts.append(
                Part(each.part.nodes[here], start + np.arange(features.size).reshape(features.shape))
            )
            start += features.size
        index = np.concatenate(picked) if picked else np.zeros(0, dtype=np.int64)
        table = np.ix_(index, index)
        p, q = self._p[table].astype(np.float64), self._q[table].astype(np.float64)
        if self._used:
            move, cross, change = (step[index, : self._used] for step in self._steps)
            p -= move @ cross.T
            half = change @ move.T
            q -= half + half.T
        return OBSState(p, q, parts)

    def _flags(self, nodes: Sequence[int] | np.ndarray) -> np.ndarray:
        flags = np.zeros(self._nodes, dtype=bool)
        index = np.asarray(nodes, dtype=np.int64)
        flags[index[index < self._nodes]] = True
        return flags

    def _leave(self, out: np.ndarray) -> float:
        """Write down the columns of a removal; returns what it costs."""
        used, (moves, crosses, changes) = self._used, (step[:, : self._used] for step in self._steps)
        cross, mixed = self._p[out], self._q[out]
        if used:
            both = np.concatenate([crosses[out], changes[out]]) @ moves.T
            cross -= both[: out.size]
            mixed -= both[out.size :]
            mixed -= moves[out] @ changes.T
        corner, inner = cross[:, out], mixed[:, out]
        if out.size == 1:
            move = cross / corner
            cost = float(inner[0, 0] / corner[0, 0])
        else:
            inverse = np.linalg.inv(corner.astype(np.float64)).astype(corner.dtype)
            move = inverse @ cross
            cost = float(np.vdot(inverse, inner))
        change = mixed - 0.5 * (inner.T @ move)
        for each in self._corners:
            each.follow(move, cross, change)
        self._append(move, cross, change)
        self._compact()
        return cost

    def _append(self, *columns: _Array) -> None:
        rows, size = columns[0].shape
        need = self._used + rows
        if need > self._steps[0].shape[1]:
            room = max(2 * need, _ROOM)
            for number, old in enumerate(self._steps):
                new = np.empty((size, room), dtype=old.dtype)
                new[:, : self._used] = old[:, : self._used]
                self._steps[number] = new
        for step, column in zip(self._steps, columns, strict=True):
            step[:, self._used : need] = column.T
        self._used = need

    def _compact(self) -> None:
        """Drop the columns of what has left, once that is a quarter."""
        size = len(self._p)
        alive = sum(each.part.features.size for each in self._corners)
        if size <= _SMALL or 4 * alive > 3 * size:
            return
        keep = np.concatenate(
            [each.part.features.reshape(-1) for each in self._corners] or [np.zeros(0, dtype=np.int64)]
        )
        self._p, self._q = (matrix[keep].take(keep, 1) for matrix in (self._p, self._q))
        self._steps = [step[keep] for step in self._steps]
        corners, start = [], 0
        for each in self._corners:
            shape = each.part.features.shape
            features = start + np.arange(each.part.features.size).reshape(shape)
            corners.append(_Corners(Part(each.part.nodes, features), each.p, each.q))
            start += each.part.features.size
        self._corners = corners


class NodePenalty:
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

    def restrict(self, nodes: np.ndarray) -> NodePenalty:
        """The same for ``nodes`` only."""
        costs = np.zeros_like(self._costs)
        costs[nodes] = self._costs[nodes]
        return NodePenalty(costs)


_AT_ONCE = 64
"""Nodes up to which one is removed at a time; of more, this part of them (a sixty-fourth) at a time."""


_COMPETITORS = 4
"""Candidates a node that is removed, among which costs are kept exact: the cheapest change places as others
leave."""


def eliminate(
    states: Sequence[OBSState | NodePenalty],
    owner: np.ndarray,
    floors: np.ndarray,
    savings: np.ndarray,
    free: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Remove nodes one after the other, always the one that costs least for what it saves.

    Of more than 64 nodes a sixty-fourth leaves at a time (two at least): the four times as many cheapest ones
    compete one by one, and the rest is brought up to date once for all that have won.

    Args:
        states: one per site that reads any of the nodes, and tolls; used up.
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
    for node in np.flatnonzero(free).tolist():
        if left[owner[node]] > floors[owner[node]]:
            left[owner[node]] -= 1
            order.append(node)
            costs.append(0.0)
    alive = np.ones(size, dtype=bool)
    alive[order] = False
    for state in states:
        state.remove(order)
    chunk = size if size <= _AT_ONCE else max(2, size // _AT_ONCE)
    while True:
        able = np.flatnonzero(alive & (left > floors)[owner])
        if able.size == 0:
            return np.array(order, dtype=np.int64), np.array(costs)
        ratio = (_increments(states, size) / savings)[able]
        count = min(able.size, max(_COMPETITORS * chunk, 16))
        chosen = able[np.argpartition(ratio, count - 1)[:count]] if count < able.size else able
        gone, spent = _compete(states, chosen, owner, left, floors, savings, chunk)
        for state in states:
            state.remove(gone)
        alive[gone] = False
        order += gone
        costs += spent


def _increments(states: Sequence[OBSState | NodePenalty], size: int) -> np.ndarray:
    total = np.zeros(size)
    for state in states:
        total += state.increments(size)
    return total


def _compete(
    states: Sequence[OBSState | NodePenalty],
    chosen: np.ndarray,
    owner: np.ndarray,
    left: np.ndarray,
    floors: np.ndarray,
    savings: np.ndarray,
    count: int,
) -> tuple[list[int], list[float]]:
    """Up to ``count`` of the ``chosen`` nodes, removed one by one, and their costs; updates ``left``."""
    small = [state.restrict(chosen) for state in states]
    stays = np.ones(len(chosen), dtype=bool)
    order: list[int] = []
    costs: list[float] = []
    while len(order) < count:
        able = np.flatnonzero(stays & (left > floors)[owner[chosen]])
        if able.size == 0:
            break
        now = _increments(small, len(owner))[chosen[able]]
        best = int((now / savings[chosen[able]]).argmin())
        node = int(chosen[able[best]])
        for state in small:
            state.remove([node])
        stays[able[best]] = False
        left[owner[node]] -= 1
        order.append(node)
        costs.append(float(now[best]))
    return order, costs
