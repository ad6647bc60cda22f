"""Groups of which one node is a large part of the budget: is the cut cheaper without their last node?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tsdistill.pruning.selection.constraints import WidthConstraints
from tsdistill.pruning.selection.cost_model import CostModel
from tsdistill.pruning.selection.greedy import Choice, select
from tsdistill.pruning.selection.pruning_order import PruningOrder
from tsdistill.pruning.selection.width_steps import refill_budget

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

    The walk takes what costs least for what it saves. Its last step may save far more than was missing:
    a node that is one coordinate of every head and as many channels of a stream may be a sixth of the
    MACs where a hundredth was missing. For each group of which a node saves at least `LEAST_SAVING` and
    the last one costs at least `LEAST_GAIN` of the cut, the walk runs again with one node fewer to take
    from it.

    Args:
        cost_model: at the widths that the walk came to, within the limit.
        new_cost_model: makes a cost model of the whole network.
        node_orders: what the walk went along.
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
