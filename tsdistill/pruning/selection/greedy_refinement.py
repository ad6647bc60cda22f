"""The selection refined: widths end at a multiple, groups are swapped, and the budget is still met."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tsdistill.pruning.selection.cost_model import CostModel
from tsdistill.pruning.selection.greedy import Choice, select
from tsdistill.pruning.selection.pruning_order import PruningOrder
from tsdistill.pruning.selection.width_constraints import WidthConstraints

_PASSES = 3
"""Times that every group is tried for a swap; mostly the second changes nothing."""


def round_off(
    cost_model: CostModel, orders: Mapping[str, Choice], constraints: WidthConstraints, limit: float
) -> None:
    """Let nodes leave or come back until every width is one that ``constraints`` allows.

    Every group that lost nodes goes down to the next allowed width. What that leaves of the budget is then
    given back in whole steps, each time to the group where it buys most: the cost of the nodes that come
    back over what they use. At last each group in turn goes a step up and whichever are cheapest go down for
    it, and that stands if the cost is lower.

    Args:
        cost_model: at the widths of the greedy selection, which are within the limit; at the rounded ones
            afterwards.
        orders: per group all the nodes that may leave, in their order.
        constraints: the allowed widths.
        limit: what the cost model may show at most.
    """
    cost_model.remove(
        {name: cost_model.kept[name] - constraints.below(name, cost_model.kept[name]) for name in orders}
    )
    steps = _Steps(cost_model, orders, constraints)
    steps.refill_budget(limit)
    for _ in range(_PASSES):
        if not sum(steps.swap(name, limit) for name in orders):
            return


def refill_budget(
    cost_model: CostModel, orders: Mapping[str, Choice], constraints: WidthConstraints, limit: float
) -> None:
    """Put nodes back for what was saved beyond the limit: those that lower the error most for their cost."""
    _Steps(cost_model, orders, constraints).refill_budget(limit)


class _Steps:
    """Steps up and down from the widths that a cost model is at."""

    def __init__(
        self, cost_model: CostModel, orders: Mapping[str, Choice], constraints: WidthConstraints
    ) -> None:
        self.cost_model, self.constraints = cost_model, constraints
        self._spent = {name: np.concatenate([[0.0], np.cumsum(order.cost)]) for name, order in orders.items()}

    def _worth(self, name: str, count: int) -> float:
        """What ``count`` more nodes of a group cost (below 0: what coming back is worth, with a minus)."""
        gone = self.cost_model.gone[name]
        return float(self._spent[name][gone + count] - self._spent[name][gone])

    def _up(self) -> dict[str, int]:
        kept = self.cost_model.kept
        ups = {name: self.constraints.above(name, kept[name]) - kept[name] for name in self._spent}
        return {name: count for name, count in ups.items() if count > 0}

    def _down(self) -> dict[str, int]:
        kept = self.cost_model.kept
        downs = {name: kept[name] - self.constraints.below(name, kept[name] - 1) for name in self._spent}
        return {
            name: count
            for name, count in downs.items()
            if 0 < count < len(self._spent[name]) - self.cost_model.gone[name]
        }

    def refill_budget(self, limit: float) -> None:
        """Go up where it buys most, as long as the limit allows it."""
        while True:
            best, most = None, 0.0
            for name, count in self._up().items():
                price = -self.cost_model.saving({name: -count})
                worth = -self._worth(name, -count)
                if worth <= 0 or self.cost_model.total + price > limit:
                    continue
                value = worth / price if price > 0 else float("inf")
                if value > most:
                    best, most = {name: -count}, value
            if best is None:
                return
            self.cost_model.remove(best)

    def swap(self, name: str, limit: float) -> bool:
        """Let one group go a step up and others down for it; whether that lowered the cost (else undone)."""
        count = self._up().get(name)
        if not count:
            return False
        before, cost = dict(self.cost_model.kept), self._cost()
        self.cost_model.remove({name: -count})
        while self.cost_model.total > limit:
            ways = [
                (self._worth(other, fewer) / max(self.cost_model.saving({other: fewer}), 1e-30), other, fewer)
                for other, fewer in self._down().items()
                if other != name
            ]
            if not ways:
                break
            _, other, fewer = min(ways)
            self.cost_model.remove({other: fewer})
        self.refill_budget(limit)
        if self.cost_model.total <= limit and self._cost() < cost * (1 - 1e-9):
            return True
        self.cost_model.remove({other: self.cost_model.kept[other] - kept for other, kept in before.items()})
        return False

    def _cost(self) -> float:
        gone = self.cost_model.gone
        return float(sum(spent[gone[name]] for name, spent in self._spent.items()))


LEAST_GAIN = 0.1
"""Part of the predicted cost of a cut by which another must be cheaper to replace it. Predicted costs are
off by some tens of percent, so that smaller differences say nothing."""


LEAST_SAVING = 0.1
"""Part of the whole network's cost (MACs, parameters, nodes or seconds) that a node of a coarse group saves.
A node of a stream that is tied to every head saves 0.16 in a transformer with 8 heads of 8. Results of other
language models can change as well, and not always for the better: of a tiny Llama (one seed) the cut to 0.7
of the MACs is the same with and without this step; at 0.5 one node is taken from another MLP and the KL
divergence from the unpruned model rises from 0.00514 to 0.00604."""


def avoid_overshoot(
    cost_model: CostModel,
    new_cost_model: Callable[[], CostModel],
    node_orders: Sequence[PruningOrder],
    orders: Mapping[str, Choice],
    constraints: WidthConstraints,
    limit: float,
) -> CostModel:
    """Select again with fewer nodes of a coarse group, where that costs less.

    The greedy selection removes what costs least for what it saves. Its last step may save far more than was
    missing: a node that is one coordinate of every head and as many channels of a stream may be a sixth of
    the MACs where a hundredth was missing. For each group of which a node saves at least `LEAST_SAVING` and
    the last one costs at least `LEAST_GAIN` of the cut, the selection runs again with one node fewer to take
    from it.

    Args:
        cost_model: at the selected widths, within the limit.
        new_cost_model: makes a cost model of the whole network.
        node_orders: the orders that were selected from.
        orders: per group all the nodes that may leave, in their order.
        constraints: the allowed widths.
        limit: what the cost model may show at most.

    Returns:
        a cost model at the widths of the cheapest cut, ``cost_model`` itself where none was cheaper by
        `LEAST_GAIN`.
    """
    spent = {name: np.concatenate([[0.0], np.cumsum(order.cost)]) for name, order in orders.items()}

    def cost(other: CostModel) -> float:
        gone = other.gone
        return float(sum(costs[gone[name]] for name, costs in spent.items()))

    whole = new_cost_model()
    large = [name for name in spent if whole.saving({name: 1}) >= LEAST_SAVING * whole.total]
    best, lowest = cost_model, cost(cost_model)
    most: dict[str, int] = {}
    while True:
        gone, needed = best.gone, LEAST_GAIN * lowest
        coarse = [
            name
            for name in large
            if gone[name] and 0 < needed <= spent[name][gone[name]] - spent[name][gone[name] - 1]
        ]
        trials = []
        for name in coarse:
            caps = {**most, name: gone[name] - 1}
            trial = new_cost_model()
            select(trial, [_capped(node_order, caps) for node_order in node_orders], limit)
            if trial.total <= limit:
                refill_budget(trial, orders, constraints, limit)
                trials.append((cost(trial), name, caps, trial))
        if not trials:
            return best
        least, _, caps, trial = min(trials, key=lambda each: each[:2])
        if least > lowest - needed:
            return best
        best, lowest, most = trial, least, caps


def _capped(node_order: PruningOrder, caps: Mapping[str, int]) -> PruningOrder:
    """The same order with at most ``caps[group]`` nodes of a group."""
    stays = np.ones(len(node_order.node), dtype=bool)
    for index, name in enumerate(node_order.groups):
        if name in caps:
            stays[np.flatnonzero(node_order.owner == index)[caps[name] :]] = False
    if stays.all():
        return node_order
    return replace(
        node_order,
        owner=node_order.owner[stays],
        node=node_order.node[stays],
        cost=node_order.cost[stays],
        free=node_order.free[stays],
    )
