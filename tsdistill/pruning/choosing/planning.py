"""``plan``: from an alignment report and a budget to the nodes that leave."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import ceil

import numpy as np

from tsdistill.alignment.report import AlignmentReport, GroupReport
from tsdistill.errors import TsdistillError
from tsdistill.pruning.choosing.budget import Budget, budget_of
from tsdistill.pruning.choosing.score import score
from tsdistill.pruning.choosing.select import Choice, savings_per_node, select
from tsdistill.pruning.pruning_plan import PrunedGroup, PruningPlan
from tsdistill.tracing.graph import NodeGraph


def plan(
    report: AlignmentReport,
    *,
    macs: float | str | None = None,
    params: float | str | None = None,
    nodes: float | str | None = None,
    keep_strong: bool = True,
    min_nodes: int | None = None,
    whole: Collection[str] = (),
) -> PruningPlan:
    """Choose the nodes that leave, over all groups at once, by cost for what they save.

    Args:
        report: an alignment report with its statistics (not one that was read from a file).
        macs: part of the MACs that is kept, ``0.5`` or ``"50%"``; exactly one of the three budgets is given.
        params: part of the parameters that is kept.
        nodes: part of the prunable nodes that is kept.
        keep_strong: teacher nodes weigh by strength; otherwise every teacher node counts the same.
        min_nodes: nodes that stay in every group (all of them in a smaller one). By default a tenth of the
            group and at least one: scores are linear, and a group cut below that is far from where they
            hold.
        whole: groups that are left whole.

    Raises:
        TsdistillError: no or several budgets, or one that cannot be met (says the smallest that can).
    """
    budget = budget_of(macs, params, nodes)
    if min_nodes is not None and (isinstance(min_nodes, bool) or min_nodes < 1):
        raise TsdistillError(f"min_nodes takes a whole number of at least 1, not {min_nodes!r}")
    graph = report.graph
    floors = {
        group.name: min(group.size, min_nodes if min_nodes is not None else max(1, ceil(group.size / 10)))
        for group in graph.groups
    }
    floors.update({group.name: group.size for group in graph.groups if group.name in whole})
    eliminations = score(report, floors, savings_per_node(graph, budget.kind), keep_strong=keep_strong)
    choices = select(graph, eliminations, budget)
    empty = Choice(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=bool))
    groups = {
        group.name: _pruned(report.by_name[group.name], choices.get(group.name, empty))
        for group in graph.groups
    }
    kept = {name: group.size - len(group.removed) for name, group in groups.items()}
    return PruningPlan(
        arch=report.arch,
        budget=_words(budget),
        keep_strong=keep_strong,
        data=report.data,
        groups=groups,
        before=_figures(graph, graph.widths),
        after=_figures(graph, kept),
    )


def _words(budget: Budget) -> str:
    return f"at most {budget} kept"


def _figures(graph: NodeGraph, kept: Mapping[str, int]) -> dict[str, int]:
    return {"params": graph.params(kept), "macs": graph.macs(kept), "nodes": sum(kept.values())}


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
