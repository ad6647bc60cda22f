"""``prune``: rounds of observing, choosing, cutting and re-aligning; a new model comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from tsdistill import plugins
from tsdistill.alignment.report import AlignmentReport
from tsdistill.errors import TsdistillError
from tsdistill.models.layers.product_calls import without_call_layers
from tsdistill.options.data_options import DataOptions
from tsdistill.options.old_names import grouped
from tsdistill.options.option_fields import written
from tsdistill.options.pruning_options import RECONSTRUCTION, RealignOptions, SelectionOptions
from tsdistill.pruning.blockwise import BlockwisePruner, NoEqualWidths, blockwise_stages, goes_by_blocks
from tsdistill.pruning.iterative import IterativePruner
from tsdistill.pruning.plan_file import PruningPlan
from tsdistill.pruning.plan_follower import PlanFollower
from tsdistill.pruning.pruning_analysis import analysis_options, analyze_prepared_for_pruning
from tsdistill.pruning.pruning_stages import pruning_stages, rounds_expected
from tsdistill.pruning.realignment import TURNS
from tsdistill.pruning.selection.budget import LOSSLESS, OLD_KEYWORDS, Budget, requested
from tsdistill.pruning.selection.importance import KIND as IMPORTANCE
from tsdistill.runtime.call_layers import call_layers
from tsdistill.runtime.progress import Progress, expect
from tsdistill.runtime.unchanged import unchanged
from tsdistill.statistics.prepared_data import PreparedData, prepare
from tsdistill.tracing.graph import Frozen

DROP = "drop"
"""The entry of a budget that names residual branches."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PruneResult:
    """A pruned model and how it came about.

    Attributes:
        model: the smaller model; the original is as it was.
        plan: which nodes of the original have left: of all rounds together, or the plan that was given.
        report: the alignment report of the original, ``None`` when the plan was given.
        put_back: groups of the plan that could not be cut and are whole, and why.
        before: ``{"params", "macs", "nodes"}`` of the original.
        after: the same of the smaller model (as it is, groups that were put back included).
        data: description of the data that the readers absorbed with.
        rounds: in how many rounds the nodes left.
        realigned: how many layers were fitted back to the original's nodes; 0 without re-alignment.
        branches: names of the residual branches that are removed.
        notes: lines for the user.
    """

    model: nn.Module
    plan: PruningPlan
    report: AlignmentReport | None
    put_back: tuple[Frozen, ...]
    before: Mapping[str, int]
    after: Mapping[str, int]
    data: str
    rounds: int = 1
    realigned: int = 0
    branches: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


GROUPED = grouped(
    moved=OLD_KEYWORDS, selection=SelectionOptions, realignment=RealignOptions, inputs=DataOptions
)
"""Old keywords of `prune` and of what prunes several times."""


@GROUPED
def prune(
    model: nn.Module,
    plan: PruningPlan | None = None,
    *,
    data: Any = None,
    macs: float | str | Budget | None = None,
    budget: Mapping[str, Any] | Budget | str | None = None,
    teacher: nn.Module | None = None,
    report: AlignmentReport | None = None,
    selection: SelectionOptions | Mapping[str, Any] = SelectionOptions(),
    realignment: RealignOptions | Mapping[str, Any] = RealignOptions(),
    inputs: DataOptions | Mapping[str, Any] = DataOptions(),
    seed: int = 0,
    progress: Progress | None = None,
) -> nn.Module:
    """A smaller copy of ``model``: the ``model`` of ``prune_result``, which explains the arguments."""
    return prune_result(
        model,
        plan,
        data=data,
        macs=macs,
        budget=budget,
        teacher=teacher,
        report=report,
        selection=selection,
        realignment=realignment,
        inputs=inputs,
        seed=seed,
        progress=progress,
    ).model


@GROUPED
@unchanged
def prune_result(
    model: nn.Module,
    plan: PruningPlan | None = None,
    *,
    data: Any = None,
    macs: float | str | Budget | None = None,
    budget: Mapping[str, Any] | Budget | str | None = None,
    teacher: nn.Module | None = None,
    report: AlignmentReport | None = None,
    selection: SelectionOptions | Mapping[str, Any] = SelectionOptions(),
    realignment: RealignOptions | Mapping[str, Any] = RealignOptions(),
    inputs: DataOptions | Mapping[str, Any] = DataOptions(),
    seed: int = 0,
    progress: Progress | None = None,
) -> PruneResult:
    """Cut nodes out of a copy of ``model``, without labels and without gradient steps.

    In every round the model is observed, the nodes to remove are chosen (`tsdistill.plan`), the layers that
    read them absorb what they gave, batch norms' running statistics follow, and the surviving nodes are
    fitted back to what they are in ``model`` (`tsdistill.pruning.realignment`). When a group turns out to be
    impossible to cut, the plan is made anew without it, so that the budget is met; a plan that was given is
    followed without it.

    Args:
        model: any module; it is left as it was.
        plan: what to cut. Without one, a budget is given and the plan is made here.
        data: what ``tsdistill.data.open_data`` takes; ``None`` for a synthetic source.
        macs: MACs that are kept: a part (``0.5``, ``"50%"``) or an amount (``"1.2G"``).
        budget: in its place what is kept of any other cost (see ``tsdistill plugins``): ``{"params": "5M"}``,
            ``{"nodes": 0.5}``, ``{"latency": "10ms"}`` (of a forward pass, measured on this device),
            ``{"memory": "200MB"}`` (its peak, measured likewise); or ``"lossless"``: only nodes leave whose
            loss leaves the function as it is; or ``{"drop": ["layer3.*"]}``: the residual branches
            (`trace_branches`) whose names meet a pattern leave whole, and no node.
        teacher: a model whose nodes the selection serves.
        report: an analysis of this very model with its statistics (``analyze``, or ``analyze_for_pruning``
            for ``heads``), so that it is not made again.
        selection: which nodes may leave, and how they are ordered (`SelectionOptions`, or some of them by
            name): ``selection={"round_to": 8}``. With any ``importance``, layers that read what leaves are
            compensated and what stays is re-aligned. Where heads lose their size, they are written in bases
            of their own first (see `tsdistill.pruning.head_basis`).
        realignment: what is done about the nodes that stay, and in how many rounds (`RealignOptions`, or some
            of them by name).
        inputs: how samples are read and how inputs look (`DataOptions`, or some of them by name). An
            augmentation is of the analysis that nodes are chosen by.
        seed: of everything random.
        progress: is called with the phase, the samples done and how many there are.

    Raises:
        TsdistillError: no plan, budget and branches to drop (or several), a plan of another type or that
            does not fit, a budget that cannot be met, re-alignment without real data, or anything that
            ``analyze`` raises.
    """
    selection, realignment = SelectionOptions.of(selection), RealignOptions.of(realignment)
    inputs = DataOptions.of(inputs)
    budget, drop = _without_drop(budget)
    planned = plan is not None or bool(drop)
    _check_alternatives(plan, drop, budget=macs is not None or bool(budget))
    wanted = None if planned else requested(macs, budget)
    lossless, joint, rounds = not planned and wanted is None, realignment.moves_blocks, realignment.rounds
    plugins.get(IMPORTANCE, plugins.name_of(selection.importance))
    if lossless and selection.importance != RECONSTRUCTION:
        raise TsdistillError(
            f"{written(LOSSLESS)} removes what costs nothing by any {written('importance')}; leave one out"
        )
    if lossless and rounds is not None:
        raise TsdistillError(
            f"{written(LOSSLESS)} takes no {written('rounds')}, all that costs nothing leaves at once; "
            "leave one out"
        )
    if planned and rounds is not None:
        raise TsdistillError(
            "a plan is followed in one cut, and so are branches to drop; leave rounds out, or give a budget "
            "in their place"
        )
    prepared = prepare(model, data, replace(inputs, augment="none"), seed=seed)
    own_widths: tuple[str, ...] = ()
    stated = {"teacher": teacher is not None, "rounds": rounds is not None, "report": report is not None}
    if not planned and goes_by_blocks(model, data, selection, wanted, **stated):
        assert wanted is not None
        expect(progress, blockwise_stages(prepared.samples))
        try:
            return _by_blocks(model, prepared, wanted, selection, progress)
        except NoEqualWidths as error:
            if selection.uniform:
                raise
            own_widths = (f"every layer gets a width of its own: {error}",)
    realigns = _realigns(realignment.realign, prepared, lossless)
    coming = pruning_stages(
        prepared.samples,
        rounds_expected(wanted, rounds, realigns),
        realigns=realigns,
        joint=joint,
        teacher=teacher is not None,
        analysed=planned or report is not None,
    )
    expect(progress, coming)
    with call_layers(model, prepared.example):
        if planned:
            follower = PlanFollower(model, prepared, seed, progress)
            plan, state = follower.follow(plan, drop, realigns=realigns)
            if realigns:
                state.realign(seed + 1, progress, turns=TURNS if joint else 0)  # as a run's only round
            described, graph, stage_progress = prepared.description, follower.graph, []
        else:
            if report is None:
                seen = prepared
                if inputs.augment != "none":
                    seen = prepare(model, data, inputs, teacher=teacher, seed=seed)
                way = "whole" if lossless else selection.heads
                report = analyze_prepared_for_pruning(
                    model, teacher, seen, analysis_options(lossless), heads=way, seed=seed, progress=progress
                )
            iterative = IterativePruner(model, teacher, report, prepared, wanted, selection, seed=seed)
            state = iterative.run(rounds, realigns, progress, joint=joint)
            described, graph, stage_progress = report.data, report.graph, iterative.notes
    return PruneResult(
        model=without_call_layers(state.model),
        plan=plan or state.plan(),
        report=None if planned else report,
        put_back=tuple(state.put_back.values()),
        before=graph.figures(),
        after=state.figures(),
        data=described,
        rounds=max(1, state.rounds),
        realigned=state.realigned.fitted if state.realigned else 0,
        branches=state.branches,
        notes=(
            *own_widths,
            *prepared.notes,
            *graph.notes,
            *stage_progress,
            *prepared.stream.notes,
            *state.notes(),
        ),
    )


def _by_blocks(
    model: nn.Module,
    prepared: PreparedData,
    budget: Budget,
    selection: SelectionOptions,
    progress: Progress | None,
) -> PruneResult:
    """Equal widths in all blocks."""
    pruner = BlockwisePruner(model, prepared, selection, progress)
    done = pruner.run(budget)
    notes = [f"group {item.name!r} could not be cut and is whole: {item.cause}" for item in done.cut.put_back]
    return PruneResult(
        model=without_call_layers(done.cut.model),
        plan=done.plan,
        report=None,
        put_back=done.cut.put_back,
        before=pruner.graph.figures(),
        after=dict(done.plan.after),
        data=prepared.description,
        realigned=done.fitted,
        notes=(*prepared.notes, *pruner.graph.notes, *prepared.stream.notes, *done.notes, *notes),
    )


def _without_drop(
    budget: Mapping[str, Any] | Budget | str | None,
) -> tuple[Mapping[str, Any] | Budget | str | None, Sequence[str] | str]:
    """A budget, and the patterns of branches that stand in it."""
    if not isinstance(budget, Mapping) or DROP not in budget:
        return budget, ()
    others = {kind: value for kind, value in budget.items() if kind != DROP}
    return others or None, budget[DROP] or ()


def _check_alternatives(plan: PruningPlan | None, drop: Sequence[str] | str, *, budget: bool) -> None:
    """Refuse a plan of another type, and more than one of a plan, branches to drop, and a budget."""
    if plan is not None and not isinstance(plan, PruningPlan):
        raise TsdistillError(
            f"plan takes a PruningPlan (PruningPlan.from_json(FILE) reads one), not {type(plan).__name__}"
        )
    if plan is not None and drop:
        raise TsdistillError(
            f"both a plan and {written('drop')} are given; the plan names its branches, leave the other out"
        )
    if plan is not None and budget:
        raise TsdistillError(
            "both a plan and a budget are given; the plan has its budget, leave the other out"
        )
    if drop and budget:
        raise TsdistillError(
            f"both {written('drop')} and a budget are given; remove the branches first, and give the budget "
            "for the model that comes out"
        )


def _realigns(realign: bool | None, prepared: PreparedData, lossless: bool) -> bool:
    """Whether surviving nodes are fitted back.

    Raises:
        TsdistillError: it is asked for where it cannot be had.
    """
    if realign and lossless:
        raise TsdistillError(
            f"{written(LOSSLESS)} leaves the function as it is, nothing is to be re-aligned; leave one out"
        )
    if realign and prepared.synthetic:
        raise TsdistillError(
            "re-alignment needs real data, on synthetic samples it fits the nodes to what the model never "
            f"sees; give {written('data')} or leave {written('realign')} out"
        )
    return (not prepared.synthetic and not lossless) if realign is None else realign
