"""``plan``: from an alignment report and a budget to the nodes to remove."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from tsdistill.alignment.report import AlignmentReport, GroupReport
from tsdistill.options.old_names import grouped
from tsdistill.options.pruning_options import SelectionOptions
from tsdistill.pruning.plan_file import PrunedGroup, PruningPlan
from tsdistill.pruning.selection.budget import OLD_KEYWORDS, Budget, requested
from tsdistill.pruning.selection.cost_model import CostModel, CostTerms, cost_model_of, savings_per_node
from tsdistill.pruning.selection.greedy import Choice, free_choices, leaving, orders, select
from tsdistill.pruning.selection.greedy_refinement import avoid_overshoot, refill_budget, round_off
from tsdistill.pruning.selection.importance import scored
from tsdistill.pruning.selection.unreachable_budget import refuse_unreachable
from tsdistill.pruning.selection.width_constraints import WidthConstraints, constraints_of

_NOTHING = Choice(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=bool))
"""The choice of a group that loses no nodes."""


@grouped(moved=OLD_KEYWORDS, selection=SelectionOptions)
def plan(
    report: AlignmentReport,
    *,
    macs: float | str | Budget | None = None,
    budget: Mapping[str, Any] | Budget | str | None = None,
    selection: SelectionOptions | Mapping[str, Any] = SelectionOptions(),
) -> PruningPlan:
    """Choose the nodes to remove, over all groups at once, by cost for what they save.

    Exactly one budget is given. It says what is kept: a part (``0.5``, ``"50%"``) or an amount (``"1.2G"``,
    ``"5M"``, ``1200``).

    Args:
        report: an alignment report with its statistics (not one that was read from a file).
        macs: MACs that are kept.
        budget: what is kept of something else: ``{"params": "5M"}``, ``{"nodes": 0.5}``; or ``"lossless"``:
            only nodes leave whose loss leaves the function as it is on the data that were seen. (Latency
            and memory have to be measured, see `prune`.)
        selection: which nodes may leave, and how they are ordered (`SelectionOptions`, or some of them by
            name). By default a tenth of every group stays, and at least one node: scores are linear, and a
            group cut below that is far from where they hold. (With ``"lossless"`` one.) How attention loses
            nodes is settled by the report.

    Raises:
        TsdistillError: no or several budgets, one above what the model has, one that cannot be met (says the
            smallest that can), or a pattern that meets no group.
    """
    return choose_nodes(report, requested(macs, budget), SelectionOptions.of(selection))


def choose_nodes(
    report: AlignmentReport,
    budget: Budget | None,
    selection: SelectionOptions,
    *,
    whole: Collection[str] = (),
    limit: float | None = None,
    price: CostTerms | None = None,
    dense: Mapping[str, int] | None = None,
) -> PruningPlan:
    """`plan`, also for a part of the way.

    Args:
        report: an alignment report with its statistics.
        budget: ``None`` for lossless.
        selection: which nodes may leave, and how they are ordered.
        whole: names of groups that are not pruned.
        limit: an amount that takes the place of the budget's own (MACs, parameters, nodes, or the price's
            seconds), for a part of the way.
        price: what operations cost on this device; a latency needs it.
        dense: group -> nodes that it had before earlier cuts, which the tenth of ``min_nodes`` is a part of.

    Raises:
        TsdistillError: as `plan`, or a latency without a price.
    """
    graph = report.graph
    constraints = constraints_of(
        graph,
        min_nodes=selection.min_nodes,
        round_to=selection.round_to,
        only=selection.only,
        exclude=selection.exclude,
        whole=whole,
        share=0.0 if budget is None else 0.1,
        dense=dense,
    )
    if budget is None:
        choices = free_choices(report, constraints)
    else:
        choices = _within(report, budget, constraints, limit, price, selection)
    groups = {
        group.name: _pruned(report.by_name[group.name], choices.get(group.name, _NOTHING))
        for group in graph.groups
    }
    kept = {name: group.size - len(group.removed) for name, group in groups.items()}
    return PruningPlan(
        arch=report.arch,
        budget=f"at most {budget} kept" if budget else "lossless",
        keep_strong=selection.keep_strong,
        data=report.data,
        groups=groups,
        before=graph.figures(),
        after=graph.figures(kept),
        by_size=tuple(report.statistics.products),
    )


def _within(
    report: AlignmentReport,
    budget: Budget,
    constraints: WidthConstraints,
    limit: float | None,
    price: CostTerms | None,
    selection: SelectionOptions,
) -> dict[str, Choice]:
    """The nodes to remove to meet a budget."""
    cost_model = cost_model_of(report.graph, budget.kind, price)
    before = cost_model.total
    most = budget.absolute(before) if limit is None else limit
    if before > most:
        refuse_unreachable(
            report, budget, constraints, cost_model, most, of=before if limit is None else None
        )
        node_orders = scored(
            report,
            constraints.floors,
            savings_per_node(cost_model),
            keep_strong=selection.keep_strong,
            importance=selection.importance,
        )
        order = orders(node_orders)
        select(cost_model, node_orders, most)
        if any(step > 1 for step in constraints.steps.values()):
            round_off(cost_model, order, constraints, most)
        else:
            refill_budget(cost_model, order, constraints, most)

            def new_cost_model() -> CostModel:
                return cost_model_of(report.graph, budget.kind, price)

            cost_model = avoid_overshoot(cost_model, new_cost_model, node_orders, order, constraints, most)
        return leaving(cost_model, order)
    return {}


def _pruned(group: GroupReport, choice: Choice) -> PrunedGroup:
    words = []
    for node, free in zip(choice.nodes.tolist(), choice.free.tolist(), strict=True):
        if group.dead[node]:
            words.append("dead")
        elif free:
            words.append("free")
        elif group.weak[node]:
            words.append("weak")
        elif group.redundant[node]:
            words.append("redundant")
        else:
            words.append("cheapest")
    return PrunedGroup(
        group.size,
        tuple(choice.nodes.tolist()),
        tuple(words),
        tuple(float(f"{cost:.6g}") for cost in choice.cost),
    )
