"""Budgets that cannot be met: which they are, and what the message says."""

from __future__ import annotations

import numpy as np

from tsdistill.alignment.report import AlignmentReport
from tsdistill.errors import BudgetUnreachable
from tsdistill.options.option_fields import written
from tsdistill.options.pruning_options import SelectionOptions
from tsdistill.pruning.selection.budget import Budget, amount
from tsdistill.pruning.selection.cost_model import CostModel, cost_model_of
from tsdistill.pruning.selection.width_constraints import WidthConstraints, constraints_of


def check_reachable(
    report: AlignmentReport, budget: Budget, selection: SelectionOptions = SelectionOptions()
) -> None:
    """Refuse a budget of MACs, parameters or nodes that cannot be met, before the nodes are scored.

    Args:
        report: an alignment report of the dense model.
        budget: what is to be kept of it.
        selection: which nodes may leave.

    Raises:
        BudgetUnreachable: says the smallest that can be met.
        TsdistillError: an amount above what the model has, or limits that ``constraints_of`` refuses.
    """
    cost_model = cost_model_of(report.graph, budget.kind)
    most = budget.absolute(cost_model.total)
    constraints = constraints_of(
        report.graph,
        min_nodes=selection.min_nodes,
        round_to=selection.round_to,
        only=selection.only,
        exclude=selection.exclude,
        dense=report.graph.widths,
    )
    refuse_unreachable(report, budget, constraints, cost_model, most, of=cost_model.total)


def refuse_unreachable(
    report: AlignmentReport,
    budget: Budget,
    constraints: WidthConstraints,
    cost_model: CostModel,
    most: float,
    of: float | None,
) -> None:
    """Refuse an amount below what every group at its floor leaves.

    Args:
        report: an alignment report.
        budget: what is to be kept, for the message.
        constraints: the floors of the groups.
        cost_model: what the widths of the report's model cost.
        most: the amount that is to be kept.
        of: the whole that the message gives the smallest part of; ``None`` for an amount.

    Raises:
        BudgetUnreachable: says the smallest that can be met, and what would make it smaller.
    """
    able = [group for group in report.groups if group.observed]
    least = cost_model.total - cost_model.saving(
        {group.name: group.size - constraints.floors[group.name] for group in able}
    )
    if least <= most:
        return
    message = _upwards(least / of) if budget.kept is not None and of else amount(budget.kind, least, up=True)
    raise BudgetUnreachable(
        f"a budget of {budget} cannot be met: the smallest that can be reached is {message}; "
        f"{_ways_out(report, constraints)}"
    )


def _ways_out(report: AlignmentReport, constraints: WidthConstraints) -> str:
    """What makes a smaller model possible: lower floors only where a group could go further down, more groups
    only where some are left whole, and the reason of those that no option can change."""
    unseen = [group.name for group in report.groups if not group.observed]
    ways = []
    if any(constraints.floors[g.name] > constraints.steps[g.name] for g in report.groups if g.observed):
        ways.append(f"lower {written('min_nodes')} (or {written('round_to')})")
    if any(constraints.floors[group.name] == group.size for group in report.groups):
        ways.append("let more groups be cut")
    text = ", ".join([*ways, "or give more" if ways else "give more"])
    if unseen:
        more = f" and {len(unseen) - 3} more" if len(unseen) > 3 else ""
        text += f" (no layer that reads these can be observed: {', '.join(unseen[:3])}{more})"
    return text


def _upwards(part: float) -> str:
    scale = 1e3 if part <= 0.999 else 1e6
    return f"{np.ceil(part * scale) / scale:.6g}"
