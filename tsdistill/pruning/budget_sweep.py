"""``sweep``: several budgets of one kind, and what each costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from tsdistill.alignment.report import AlignmentReport
from tsdistill.errors import BudgetUnreachable, TsdistillError
from tsdistill.evaluation import Comparison, compare
from tsdistill.options.data_options import DataOptions
from tsdistill.options.old_names import Move, grouped
from tsdistill.options.pruning_options import JUDGED, JudgeOptions, RealignOptions, SelectionOptions
from tsdistill.pruning.blockwise import goes_by_blocks
from tsdistill.pruning.holdout import repeatable, split_data
from tsdistill.pruning.pruner import PruneResult, prune_result
from tsdistill.pruning.pruning_analysis import analyze_for_pruning, graph_of
from tsdistill.pruning.pruning_stages import sweep_stages
from tsdistill.pruning.selection.budget import budget_of
from tsdistill.pruning.selection.cost import CostEstimate, MeasuredCost, cost_of
from tsdistill.runtime.forward import head
from tsdistill.runtime.progress import Progress, expect, prefixed
from tsdistill.runtime.unchanged import unchanged

DENSE = "dense"

_COMPARED = {"latency": "latency", "memory": "peak_memory"}
"""Costs that the comparison of the models measures anyway, and its figures of them."""


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
        kind: what the budgets count: the name of a cost, such as ``"macs"``.
        rows: one a budget that could be met, in the order in which they were given.
        comparison: figures of the dense model and of every row, in that order, measured together.
        measured_on: what samples the metrics are from.
        notes: lines for the user, such as budgets that cannot be met.
        amounts: what the budgets count, of the dense model and of every row (seconds, or bytes, where
            measured).
    """

    kind: str
    rows: tuple[SweepRow, ...]
    comparison: Comparison
    measured_on: str
    notes: tuple[str, ...]
    amounts: tuple[float, ...]

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


@grouped(
    moved={"metrics": Move("judging", "metric"), "kind": Move("budgets", None)},
    selection=SelectionOptions,
    realignment=RealignOptions,
    judging=JudgeOptions,
    inputs=DataOptions,
)
@unchanged
def sweep(
    model: nn.Module,
    budgets: Sequence[float | str] | Mapping[str, Sequence[float | str]],
    *,
    data: Any = None,
    teacher: nn.Module | None = None,
    report: AlignmentReport | None = None,
    judging: JudgeOptions | Mapping[str, Any] = JudgeOptions(),
    selection: SelectionOptions | Mapping[str, Any] = SelectionOptions(),
    realignment: RealignOptions | Mapping[str, Any] = RealignOptions(),
    inputs: DataOptions | Mapping[str, Any] = DataOptions(),
    seed: int = 0,
    progress: Progress | None = None,
    done: Callable[[SweepRow], None] | None = None,
) -> Sweep:
    """Prune ``model`` to each of several budgets, every time from the dense model, and compare the results.

    Args:
        model: it is left as it was.
        budgets: MACs that are kept, each as `prune_result` takes it; or what is kept of something else:
            ``{"params": ["5M", "3M"]}``, or any other cost by its name.
        data: what ``tsdistill.data.open_data`` takes.
        teacher: a model whose nodes the selection serves.
        report: an analysis of this very model with its statistics (see `prune_result`), so that it is not
            made again.
        judging: evaluation metrics by name, and how many samples judge; by default the metrics that go with
            the data and the outputs. They are taken on samples that pruning did not see where there are some
            (see `prune_to_drop`).
        selection: which nodes may leave, as `prune_result` takes it.
        realignment: what is done about the nodes that stay, likewise.
        inputs: how samples are read and how inputs look, likewise.
        seed: of everything random.
        progress: is called with the phase, the samples done and how many there are.
        done: is given every row as soon as it is there.

    Raises:
        TsdistillError: no budgets, of several kinds, the same twice or none that can be met; or anything that
            `prune_result` raises.
    """
    judging, selection = JudgeOptions.of(judging), SelectionOptions.of(selection)
    realignment, inputs = RealignOptions.of(realignment), DataOptions.of(inputs)
    kind, stated = kind_of(budgets)
    named = check_budgets(stated, kind)
    data = repeatable(data)
    inputs, stream, measured_on = split_data(model, data, inputs, seed, judging.judged)
    parts = {stages_of(kind, name): budget_of(**{kind: name}) for name in named}
    coming = sweep_stages(
        realignment,
        inputs,
        parts,
        stream.samples,
        teacher=teacher is not None,
        analysed=report is not None,
    )
    expect(progress, coming)
    others = {"teacher": teacher is not None, "rounds": realignment.rounds is not None}
    by_blocks = goes_by_blocks(
        model, data, selection, next(iter(parts.values())), **others, report=report is not None
    )
    selection = selection if by_blocks else replace(selection, uniform=False)
    if report is None and not by_blocks:
        report = analyze_for_pruning(
            model, teacher, data, heads=selection.heads, inputs=inputs, seed=seed, progress=progress
        )
    rows: list[SweepRow] = []
    notes: list[str] = []
    for name in named:
        try:
            result = prune_result(
                model,
                data=data,
                budget={kind: name},
                teacher=teacher,
                report=report,
                selection=selection,
                realignment=realignment,
                inputs=inputs,
                seed=seed,
                progress=prefixed(progress, stages_of(kind, name)),
            )
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
    compared = compare(
        models,
        stream,
        judging=replace(judging, judged=JUDGED),
        inputs=DataOptions(example_input=example),
        progress=progress,
    )
    amounts = _amounts(kind, rows, compared, model, report, example)
    return Sweep(kind, tuple(rows), compared, measured_on, tuple(notes), amounts)


def _amounts(
    kind: str,
    rows: Sequence[SweepRow],
    compared: Comparison,
    model: nn.Module,
    report: AlignmentReport | None,
    example: Any,
) -> tuple[float, ...]:
    """What the budgets count, of the dense model and of every row."""
    if kind in _COMPARED:
        return tuple(getattr(compared, _COMPARED[kind]))
    results = [row.result for row in rows]
    if kind in results[0].before:
        return (results[0].before[kind], *(result.after[kind] for result in results))
    cost = cost_of(kind)
    if isinstance(cost, MeasuredCost):
        readings = [cost.measure(model, result.model, example) for result in results]
        return (readings[0].dense, *(reading.small for reading in readings))
    graph = graph_of(model, example, ()) if report is None else report.graph
    graphs = [graph, *(graph_of(result.model, example, result.plan.by_size) for result in results)]
    return tuple(CostEstimate(tuple(cost.terms(each))).value(each) for each in graphs)


def kind_of(
    budgets: Sequence[float | str] | Mapping[str, Sequence[float | str]],
) -> tuple[str, Sequence[float | str]]:
    """What the budgets of a sweep count, and the budgets.

    Raises:
        TsdistillError: they are of several kinds, or of none.
    """
    if not isinstance(budgets, Mapping):
        return "macs", budgets
    if len(budgets) != 1:
        raise TsdistillError(f"a sweep goes over budgets of one kind, not of {len(budgets)}")
    return next(iter(budgets.items()))


def stages_of(kind: str, budget: str) -> str:
    """What the stages of a budget begin with."""
    return f"{kind} {budget}: "


def check_budgets(budgets: Sequence[float | str], kind: str) -> list[str]:
    """The budgets of a sweep as texts.

    Raises:
        TsdistillError: there are none, one is given twice or is none, or there is no such kind.
    """
    named = [str(budget).strip() for budget in budgets]
    if not named:
        raise TsdistillError("a sweep needs budgets, such as 0.8,0.6,0.4; none are given")
    parsed = [budget_of(**{kind: name}) for name in named]
    for place, budget in enumerate(parsed):
        if budget in parsed[:place]:
            raise TsdistillError(f"the budget {named[place]} is given twice; give it once")
    return named
