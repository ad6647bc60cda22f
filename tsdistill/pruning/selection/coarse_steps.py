"""Groups of which one node is a large part of the budget: is the cut cheaper without their last node?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tsdistill.pruning.selection.constraints import Limits
from tsdistill.pruning.selection.cost_model import Meter
from tsdistill.pruning.selection.greedy import Choice, select
from tsdistill.pruning.selection.pruning_order import Elimination
from tsdistill.pruning.selection.width_steps import give_back

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
    meter: Meter,
    new_meter: Callable[[], Meter],
    eliminations: Sequence[Elimination],
    orders: Mapping[str, Choice],
    limits: Limits,
    limit: float,
) -> Meter:
    """Select again with fewer nodes of a coarse group, where that costs less.

    The walk takes what costs least for what it saves. Its last step may save far more than was missing:
    a node that is one coordinate of every head and as many channels of a stream may be a sixth of the
    MACs where a hundredth was missing. For each group of which a node saves at least `LEAST_SAVING` and
    the last one costs at least `LEAST_GAIN` of the cut, the walk runs again with one node fewer to take
    from it.

    Args:
        meter: at the widths that the walk came to, within the limit.
        new_meter: makes a meter of the whole network.
        eliminations: what the walk went along.
        orders: per group all the nodes that may leave, in their order.
        limits: the allowed widths.
        limit: what the meter may show at most.

    Returns:
        a meter at the widths of the cheapest cut, ``meter`` itself where none was cheaper by `LEAST_GAIN`.
    """
    spent = {name: np.concatenate([[0.0], np.cumsum(order.cost)]) for name, order in orders.items()}

    def cost(other: Meter) -> float:
        gone = other.gone
        return float(sum(costs[gone[name]] for name, costs in spent.items()))

    whole = new_meter()
    large = [name for name in spent if whole.saving({name: 1}) >= LEAST_SAVING * whole.total]
    best, lowest = meter, cost(meter)
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
            trial = new_meter()
            select(trial, [_capped(elimination, caps) for elimination in eliminations], limit)
            if trial.total <= limit:
                give_back(trial, orders, limits, limit)
                trials.append((cost(trial), name, caps, trial))
        if not trials:
            return best
        least, _, caps, trial = min(trials, key=lambda each: each[:2])
        if least > lowest - needed:
            return best
        best, lowest, most = trial, least, caps


def _capped(elimination: Elimination, caps: Mapping[str, int]) -> Elimination:
    """The same elimination with at most ``caps[group]`` nodes of a group."""
    stays = np.ones(len(elimination.node), dtype=bool)
    for index, name in enumerate(elimination.groups):
        if name in caps:
            stays[np.flatnonzero(elimination.owner == index)[caps[name] :]] = False
    if stays.all():
        return elimination
    return replace(
        elimination,
        owner=elimination.owner[stays],
        node=elimination.node[stays],
        cost=elimination.cost[stays],
        free=elimination.free[stays],
    )
