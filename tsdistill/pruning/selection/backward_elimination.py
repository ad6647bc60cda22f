"""Backward elimination: in which order nodes leave, and what each costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tsdistill.pruning.selection.obs import NodePenalty, OBSState

_AT_ONCE = 64
_COMPETITORS = 4


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
        regressions: one per site that reads any of the nodes, and tolls; used up.
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
