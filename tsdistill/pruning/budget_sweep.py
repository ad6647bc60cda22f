"""``sweep``: several budgets of one kind, and what each costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from tsdistill.alignment.report import AlignmentReport
from tsdistill.errors import BudgetUnreachable, TsdistillError
from tsdistill.evaluation import Comparison, compare
from tsdistill.evaluation.metric import Metric
from tsdistill.pruning.accuracy_search import BUDGETS
from tsdistill.pruning.holdout import JUDGED, OPENING, repeatable, split_data
from tsdistill.pruning.pruner import PruneResult, prune_result
from tsdistill.pruning.pruning_analysis import survey
from tsdistill.pruning.pruning_stages import sweep_stages
from tsdistill.pruning.selection.budget import budget_of
from tsdistill.runtime.forward import head
from tsdistill.runtime.progress import Progress, expect, prefixed
from tsdistill.runtime.unchanged import unchanged

DENSE = "dense"

SWEPT = ("macs", "params", "nodes", "latency", "memory")
"""Costs that a sweep can go over: those that a comparison of models has figures of."""


@dataclass(frozen=True, eq=False)
class SweepRow:
    """One budget and its model.

    Attributes:
        budget: as it was given, such as ``"0.6"`` or ``"10ms"``.
        result: the pruned model and how it came about.
    """

    budget: str
    result: PruneResult


@dataclass(frozen=True, eq=False)
class Sweep:
    """Models of one network at several budgets.

    Attributes:
        kind: what the budgets count: ``"macs"``, ``"params"``, ``"nodes"`` or ``"latency"``.
        rows: one a budget that could be met, in the order in which they were given.
        comparison: figures of the dense model and of every row, in that order, measured together.
        measured_on: what samples the metrics are from.
        notes: lines for the user, such as budgets that cannot be met.
    """

    kind: str
    rows: tuple[SweepRow, ...]
    comparison: Comparison
    measured_on: str
    notes: tuple[str, ...]

    @property
    def amounts(self) -> tuple[float, ...]:
        """What the budgets count, of the dense model and of every row (seconds, or bytes, where measured)."""
        if self.kind == "latency":
            return self.comparison.latency
        if self.kind == "memory":
            return self.comparison.peak_memory
        before = self.rows[0].result.before[self.kind]
        return (before, *(row.result.after[self.kind] for row in self.rows))

    def to_dict(self) -> dict[str, Any]:
        """The sweep as plain data for JSON."""
        return {
            "format": 1,
            "kind": "sweep",
            "budgets": self.kind,
            "measured_on": self.measured_on,
            "notes": list(self.notes),
            "amounts": list(self.amounts),
            "rows": [
                {
                    "budget": row.budget,
                    "before": dict(row.result.before),
                    "after": dict(row.result.after),
                    "data": row.result.data,
                    "notes": list(row.result.notes),
                }
                for row in self.rows
            ],
            "comparison": self.comparison.to_dict(),
        }


@unchanged
def sweep(
    model: nn.Module,
    budgets: Sequence[float | str],
    *,
    kind: str = "macs",
    data: Any = None,
    metrics: Sequence[str | type[Metric]] | None = None,
    judged: int = JUDGED,
    report: AlignmentReport | None = None,
    progress: Progress | None = None,
    done: Callable[[SweepRow], None] | None = None,
    **how: Any,
) -> Sweep:
    """Prune ``model`` to each of several budgets, every time from the dense model, and compare the results.

    Args:
        model: it is left as it was.
        budgets: what is kept, as `prune_result` takes it.
        kind: what they count: ``"macs"``, ``"params"``, ``"nodes"`` or ``"latency"``.
        data: what ``tsdistill.data.open_data`` takes.
        metrics: evaluation metrics by name; by default those that go with the data and the outputs. They are
            taken on samples that pruning did not see where there are some (see `prune_to_drop`).
        judged: at most so many samples.
        report: an analysis of this very model with its statistics (see `prune_result`), so that it is not
            made again.
        progress: is called with the phase, the samples done and how many there are.
        done: is given every row as soon as it is there.
        how: everything else that `prune_result` takes, budgets aside.

    Raises:
        TsdistillError: no budgets, the same twice or none that can be met; a plan or another budget beside
            them; or anything that `prune_result` raises.
    """
    named = check_budgets(budgets, kind)
    beside = [name for name in BUDGETS if how.get(name) not in (None, False)]
    if beside:
        raise TsdistillError(f"{beside[0]} and a sweep do not go together: it has its budgets; leave one out")
    data = repeatable(data)
    how["samples"], stream, measured_on = split_data(model, data, how, judged)
    parts = {stages_of(kind, name): budget_of(**{kind: name}) for name in named}
    expect(progress, sweep_stages(how, parts, stream.samples, analysed=report is not None))
    if report is None:
        opening = {name: how[name] for name in (*OPENING, "heads") if name in how}
        report = survey(model, how.get("teacher"), data, progress=progress, **opening)
    rows: list[SweepRow] = []
    notes: list[str] = []
    for name in named:
        how.update({kind: name, "progress": prefixed(progress, stages_of(kind, name))})
        try:
            result = prune_result(model, data=data, report=report, **how)
        except BudgetUnreachable as error:
            notes.append(str(error))
            continue
        rows.append(SweepRow(name, result))
        if done is not None:
            done(rows[-1])
    if not rows:
        raise TsdistillError(f"none of the budgets can be met: {notes[0]}")
    models = {DENSE: model, **{row.budget: row.result.model for row in rows}}
    example = head(next(iter(stream))[0], 1)
    compared = compare(models, stream, metrics=metrics, example_input=example, progress=progress)
    return Sweep(kind, tuple(rows), compared, measured_on, tuple(notes))


def stages_of(kind: str, budget: str) -> str:
    """What the stages of a budget begin with."""
    return f"{kind} {budget}: "


def check_budgets(budgets: Sequence[float | str], kind: str) -> list[str]:
    """The budgets of a sweep as texts.

    Raises:
        TsdistillError: there are none, one is given twice or is none, or there is no such kind.
    """
    if kind not in SWEPT:
        raise TsdistillError(f"a sweep goes over {', '.join(SWEPT[:-1])} or {SWEPT[-1]}, not {kind!r}")
    named = [str(budget).strip() for budget in budgets]
    if not named:
        raise TsdistillError("a sweep needs budgets, such as 0.8,0.6,0.4; none are given")
    parsed = [budget_of(**{kind: name}) for name in named]
    for place, budget in enumerate(parsed):
        if budget in parsed[:place]:
            raise TsdistillError(f"the budget {named[place]} is given twice; give it once")
    return named
