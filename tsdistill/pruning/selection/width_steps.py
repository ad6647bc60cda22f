"""Widths in steps: groups that lost nodes end at a multiple, and the budget is still met."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tsdistill.pruning.selection.constraints import WidthConstraints
from tsdistill.pruning.selection.cost_model import CostModel
from tsdistill.pruning.selection.greedy import Choice

_PASSES = 3


def round_off(
    cost_model: CostModel, orders: Mapping[str, Choice], constraints: WidthConstraints, limit: float
) -> None:
    """Let nodes leave or come back until every width is one that ``constraints`` allows.

    Every group that lost nodes goes down to the next allowed width. What that leaves of the budget is then
    given back in whole steps, each time to the group where it buys most: the cost of the nodes that come
    back over what they use. At last each group in turn goes a step up and whichever are cheapest go down for
    it, and that stands if the cost is lower.

    Args:
        cost_model: at the widths that a walk came to, which are within the limit; at the rounded ones
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
    """Let nodes come back for what a walk saved beyond the limit, where they buy most for what they use."""
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
