"""Greedy selection over all groups at once: always what costs least for what it saves."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tsdistill.alignment.report import AlignmentReport
from tsdistill.pruning.selection.cost_model import CostModel
from tsdistill.pruning.selection.pruning_order import PruningOrder
from tsdistill.pruning.selection.width_constraints import WidthConstraints


@dataclass(frozen=True, eq=False)
class Choice:
    """The nodes of one group in the order in which they are removed.

    Attributes:
        nodes: int ``[k]``.
        cost: float64 ``[k]``.
        free: bool ``[k]``.
    """

    nodes: np.ndarray
    cost: np.ndarray
    free: np.ndarray

    def first(self, count: int) -> Choice:
        """The first ``count`` of them."""
        return Choice(self.nodes[:count], self.cost[:count], self.free[:count])


def select(cost_model: CostModel, node_orders: Sequence[PruningOrder], limit: float) -> None:
    """Remove nodes along the orders until ``cost_model.total`` is at most ``limit``, or all are removed.

    The costs along each order are made convex first (averaged over stretches), so that an expensive node does
    not hide cheap ones behind it. Afterwards the cost model holds the number of nodes kept.
    """
    cursors = [_OrderCursor(node_order) for node_order in node_orders]
    heap: list[tuple[float, int]] = [
        (cursor.ratio(cost_model), index) for index, cursor in enumerate(cursors) if cursor.left
    ]
    heapq.heapify(heap)
    while cost_model.total > limit and heap:
        _, index = heapq.heappop(heap)
        cursor = cursors[index]
        ratio = cursor.ratio(cost_model)
        if heap and ratio > heap[0][0]:
            heapq.heappush(heap, (ratio, index))
            continue
        cursor.step(cost_model, limit)
        if cursor.left:
            heapq.heappush(heap, (cursor.ratio(cost_model), index))


class _OrderCursor:
    """A place along one order."""

    def __init__(self, node_order: PruningOrder) -> None:
        self.node_order = node_order
        self.position = 0
        self._slopes = convex(node_order.cost)
        self._chunk = max(1, len(node_order.node) // 100)

    @property
    def left(self) -> bool:
        return self.position < len(self.node_order.node)

    def _end(self) -> int:
        """The end of the next chunk: nodes of one slope, at most a hundredth of all."""
        stop = min(self.position + self._chunk, len(self._slopes))
        same = self._slopes[self.position : stop] == self._slopes[self.position]
        return self.position + (int(same.argmin()) if not same.all() else len(same))

    def _leaving(self, end: int) -> dict[str, int]:
        counts = np.bincount(
            self.node_order.owner[self.position : end], minlength=len(self.node_order.groups)
        )
        return {name: int(count) for name, count in zip(self.node_order.groups, counts, strict=True) if count}

    def ratio(self, cost_model: CostModel) -> float:
        """Cost over saving of the next chunk."""
        end = self._end()
        saving = cost_model.saving(self._leaving(end))
        cost = float(self._slopes[self.position]) * (end - self.position)
        return cost / saving if saving > 0 else float("inf")

    def step(self, cost_model: CostModel, limit: float) -> None:
        """Take the next chunk, or as much of it as the budget asks for."""
        end = self._end()
        for stop in range(self.position + 1, end):
            if cost_model.total - cost_model.saving(self._leaving(stop)) <= limit:
                end = stop
                break
        cost_model.remove(self._leaving(end))
        self.position = end


def convex(cost: np.ndarray) -> np.ndarray:
    """Marginal costs of the lower convex hull of the cumulative cost, which never decrease.

    Pool-adjacent-violators; ``cost`` and the result are float64 ``[steps]``.
    """
    means: list[float] = []
    counts: list[int] = []
    for value in cost.tolist():
        means.append(value)
        counts.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            last, number = means.pop(), counts.pop()
            means[-1] = (means[-1] * counts[-1] + last * number) / (counts[-1] + number)
            counts[-1] += number
    return np.repeat(np.array(means), counts) if means else np.zeros(0)


def orders(node_orders: Sequence[PruningOrder]) -> dict[str, Choice]:
    """Per group all the nodes that may leave it, in the order in which they do."""
    result: dict[str, Choice] = {}
    for node_order in node_orders:
        for index, name in enumerate(node_order.groups):
            here = np.flatnonzero(node_order.owner == index)
            result[name] = Choice(node_order.node[here], node_order.cost[here], node_order.free[here])
    return result


def leaving(cost_model: CostModel, orders: Mapping[str, Choice]) -> dict[str, Choice]:
    """Per group the nodes to remove from it, as many as the cost model has lost."""
    return {name: order.first(cost_model.gone[name]) for name, order in orders.items()}


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
