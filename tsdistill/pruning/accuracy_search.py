"""``prune_to_drop``: the largest cut that costs at most so much accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from math import isfinite, sqrt
from typing import Any

from torch import nn

from tsdistill.alignment.report import AlignmentReport
from tsdistill.errors import BudgetUnreachable, TsdistillError
from tsdistill.options.data_options import DataOptions
from tsdistill.options.old_names import grouped
from tsdistill.options.option_fields import written
from tsdistill.options.pruning_options import JudgeOptions, RealignOptions, SelectionOptions
from tsdistill.pruning.blockwise import goes_by_blocks
from tsdistill.pruning.holdout import HoldoutEvaluator, repeatable, split_data
from tsdistill.pruning.pruner import PruneResult, prune_result
from tsdistill.pruning.pruning_analysis import analyze_for_pruning
from tsdistill.pruning.pruning_stages import search_stages, trial_name
from tsdistill.pruning.selection.budget import Budget
from tsdistill.runtime.progress import Progress, expect, prefixed
from tsdistill.runtime.unchanged import unchanged

TRIALS = 6
"""Budgets that a search tries at most, unless the caller says otherwise: each is a whole pruning."""

_LEAST = 0.05
"""The smallest part of the MACs that is looked at."""
_NEAR = 1.02
"""Two parts so near to one another end the search."""


@dataclass(frozen=True)
class Trial:
    """One cut that was tried.

    Attributes:
        macs: part of the MACs that was asked for.
        kept: part that is left, ``None`` when the model cannot be cut so far.
        figure: the metric of the cut model, ``None`` likewise.
        drop: how much worse than the dense model's that is.
        allowed: whether that is no more than was allowed.
    """

    macs: float
    kept: float | None
    figure: float | None
    drop: float | None
    allowed: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class DropResult(PruneResult):
    """A pruned model that loses no more than was allowed, and what was tried on the way.

    Attributes:
        metric: what is judged by.
        unit: of its figures.
        dense_figure: the dense model's.
        figure: the pruned model's.
        max_drop: how much worse it may be.
        trials: everything that was tried, in order.
        judged_on: description of the samples that judged.
    """

    metric: str
    unit: str
    dense_figure: float
    figure: float
    max_drop: float
    trials: tuple[Trial, ...]
    judged_on: str

    def search_dict(self) -> dict[str, Any]:
        """The search as plain data for JSON."""
        return {
            "metric": self.metric,
            "unit": self.unit,
            "dense": self.dense_figure,
            "pruned": self.figure,
            "max_drop": self.max_drop,
            "judged_on": self.judged_on,
            "trials": [{f.name: getattr(trial, f.name) for f in fields(Trial)} for trial in self.trials],
        }


@grouped(selection=SelectionOptions, realignment=RealignOptions, judging=JudgeOptions, inputs=DataOptions)
@unchanged
def prune_to_drop(
    model: nn.Module,
    max_drop: float | str,
    *,
    data: Any = None,
    teacher: nn.Module | None = None,
    report: AlignmentReport | None = None,
    trials: int = TRIALS,
    judging: JudgeOptions | Mapping[str, Any] = JudgeOptions(),
    selection: SelectionOptions | Mapping[str, Any] = SelectionOptions(),
    realignment: RealignOptions | Mapping[str, Any] = RealignOptions(),
    inputs: DataOptions | Mapping[str, Any] = DataOptions(),
    seed: int = 0,
    progress: Progress | None = None,
) -> DropResult:
    """The smallest model, in MACs, whose ``metric`` is at most ``max_drop`` worse than that of ``model``.

    The part of the MACs that is kept is bisected on a log scale between 1 and 0.05; every trial is a whole
    `prune_result`. Models are judged on samples that pruning did not see where there are some: those behind
    ``samples``, or without ``samples`` a fifth of the data.

    Args:
        model: it is left as it was.
        max_drop: in the metric's own units (percentage points for accuracy and agreement): ``1``, ``0.5``; or
            ``"5%"``: of the dense model's figure.
        data: what ``tsdistill.data.open_data`` takes.
        teacher: a model whose nodes the selection serves.
        report: an analysis of this very model with its statistics (see `prune_result`), so that it is not
            made again.
        trials: at most so many cuts are tried.
        judging: one evaluation metric by name, and how many samples judge. By default accuracy where there
            are labels of classes, agreement with the dense model where there are no labels.
        selection: which nodes may leave, as `prune_result` takes it.
        realignment: what is done about the nodes that stay, likewise.
        inputs: how samples are read and how inputs look, likewise.
        seed: of everything random.
        progress: is called with the phase, the samples done and how many there are.

    Raises:
        TsdistillError: several metrics are named, ``max_drop`` is no amount, even the smallest cut
            that was tried loses more (says how much), or anything that `prune_result` raises.
    """
    judging, selection = JudgeOptions.of(judging), SelectionOptions.of(selection)
    realignment, inputs = RealignOptions.of(realignment), DataOptions.of(inputs)
    parse_drop(max_drop)
    data = repeatable(data)
    inputs, stream, kind = split_data(model, data, inputs, seed, judging.judged)
    judge = HoldoutEvaluator(model, stream, judging, progress)
    most = allowed_drop(max_drop, judge)
    expect(
        progress,
        search_stages(
            realignment,
            inputs.samples,
            trials,
            stream.samples,
            teacher=teacher is not None,
            analysed=report is not None,
        ),
    )
    stated = {"teacher": teacher is not None, "rounds": realignment.rounds is not None}
    by_blocks = goes_by_blocks(
        model, data, selection, Budget("macs", 1.0), **stated, report=report is not None
    )
    selection = selection if by_blocks else replace(selection, uniform=False)
    if report is None and not by_blocks:
        report = analyze_for_pruning(
            model, teacher, data, heads=selection.heads, inputs=inputs, seed=seed, progress=progress
        )
    kept: dict[float, PruneResult] = {}

    done = 0

    def attempt(part: float) -> Trial:
        nonlocal done
        done += 1
        report_progress = prefixed(progress, trial_name(done))
        judge.progress = report_progress
        try:
            result = prune_result(
                model,
                data=data,
                macs=part,
                teacher=teacher,
                report=report,
                selection=selection,
                realignment=realignment,
                inputs=inputs,
                seed=seed,
                progress=report_progress,
            )
        except BudgetUnreachable:
            return Trial(part, None, None, None, False)
        figure = judge.figure(result.model)
        drop = judge.drop(figure)
        trial = Trial(part, result.after["macs"] / result.before["macs"], figure, drop, drop <= most)
        if trial.allowed:
            kept.clear()
            kept[part] = result
        return trial

    tried = bisect(attempt, trials)
    if not kept:
        raise TsdistillError(_too_much(tried, judge, most))
    (part, result) = next(iter(kept.items()))
    best = next(trial for trial in tried if trial.macs == part)
    assert best.figure is not None
    note = (
        f"{judge.metric}: {judge.words(judge.dense)} dense, {judge.words(best.figure)} at {best.kept:.3f} of "
        f"the MACs, the largest of {len(tried)} cuts tried that loses at most {judge.words(most)}"
    )
    notes = (note, *_coarse(stream.samples, judge, most))
    base = {f.name: getattr(result, f.name) for f in fields(PruneResult)}
    base["notes"] = (*result.notes, *notes)
    return DropResult(
        **base,
        metric=judge.metric,
        unit=judge.unit,
        dense_figure=judge.dense,
        figure=best.figure,
        max_drop=most,
        trials=tuple(tried),
        judged_on=f"{kind}: {stream.description}",
    )


def bisect(attempt: Callable[[float], Trial], trials: int) -> list[Trial]:
    """Halve, on a log scale, the parts between the largest known to be too little and the least allowed."""
    low, high = _LEAST, 1.0
    tried: list[Trial] = []
    while len(tried) < trials and high > _NEAR * low:
        trial = attempt(sqrt(low * high))
        tried.append(trial)
        if trial.allowed:
            high = min(trial.macs, trial.kept or 1.0)
        else:
            low = trial.macs
    return tried


def parse_drop(value: float | str) -> tuple[float, bool]:
    """An amount, and whether it is a part (of the dense model's figure).

    Raises:
        TsdistillError: not a number of at least 0.
    """
    text = str(value).strip()
    try:
        amount = float(text.removesuffix("%"))
    except ValueError:
        amount = float("nan")
    if isinstance(value, bool) or not isfinite(amount) or amount < 0:
        raise TsdistillError(
            f"{written('max_drop')} takes how much may be lost, 1 (points of accuracy) or 5% (of the dense "
            f"model's figure), not {value!r}"
        )
    return (amount / 100, True) if text.endswith("%") else (amount, False)


def allowed_drop(max_drop: float | str, judge: HoldoutEvaluator) -> float:
    """``max_drop`` in the metric's units.

    Raises:
        TsdistillError: a part of a figure that is 0.
    """
    amount, relative = parse_drop(max_drop)
    if relative and judge.dense == 0:
        raise TsdistillError(
            f"the dense model's {judge.metric} is 0, of which {max_drop} is nothing; give "
            f"{written('max_drop')} in {judge.unit or 'its own units'}"
        )
    return amount * abs(judge.dense) if relative else amount


def _coarse(samples: int | None, judge: HoldoutEvaluator, most: float) -> Iterator[str]:
    """A note where a single sample weighs more than what may be lost."""
    if judge.unit == "%" and samples is not None and most < 100 / samples:
        yield (
            f"{samples} samples judge, each of which is {100 / samples:.2g} % of {judge.metric}: too few to "
            f"tell a loss of {judge.words(most)}; give more data"
        )


def _too_much(tried: list[Trial], judge: HoldoutEvaluator, most: float) -> str:
    judged = [trial for trial in tried if trial.drop is not None]
    if not judged:
        fewer = written("min_nodes")
        return f"none of the cuts that were tried can be made; lower {fewer}, or let more groups be cut"
    mildest = max(judged, key=lambda trial: trial.macs)
    assert mildest.drop is not None
    assert mildest.figure is not None
    return (
        f"even with {mildest.kept:.3f} of the MACs kept {judge.metric} goes from {judge.words(judge.dense)} "
        f"to {judge.words(mildest.figure)}, and no more than {judge.words(most)} may be lost; allow more"
    )
