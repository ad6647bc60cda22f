"""``prune``: rounds of observing, choosing, cutting and re-aligning; a new model comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from tsdistill import plugins
from tsdistill.alignment.report import AlignmentReport
from tsdistill.errors import TsdistillError
from tsdistill.models.files.stored_weights import check_finite
from tsdistill.models.layers.product_calls import without_call_layers
from tsdistill.pruning.head_basis import rebase
from tsdistill.pruning.iterative import Descent
from tsdistill.pruning.plan_file import PruningPlan
from tsdistill.pruning.pruning_analysis import check_heads, survey_prepared
from tsdistill.pruning.pruning_stages import CUT, pruning_stages, rounds_expected
from tsdistill.pruning.pruning_state import Course
from tsdistill.pruning.realignment import TURNS
from tsdistill.pruning.selection.budget import asked
from tsdistill.pruning.selection.importance import DEFAULT, Importance
from tsdistill.pruning.selection.importance import KIND as IMPORTANCE
from tsdistill.runtime.call_layers import call_layers
from tsdistill.runtime.progress import Progress, expect, tell
from tsdistill.runtime.unchanged import unchanged
from tsdistill.statistics.analysis_stages import TRACE
from tsdistill.statistics.observation import observe
from tsdistill.statistics.prepared_data import Prepared, inputs_for, prepare
from tsdistill.statistics.sites import find_sites
from tsdistill.tracing import trace
from tsdistill.tracing.graph import Frozen


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
    notes: tuple[str, ...] = ()


def prune(model: nn.Module, plan: PruningPlan | None = None, **how: Any) -> nn.Module:
    """A smaller copy of ``model``: the ``model`` of ``prune_result``, which explains the arguments."""
    return prune_result(model, plan, **how).model


@unchanged
def prune_result(
    model: nn.Module,
    plan: PruningPlan | None = None,
    *,
    data: Any = None,
    macs: float | str | None = None,
    params: float | str | None = None,
    nodes: float | str | None = None,
    latency: float | str | None = None,
    memory: float | str | None = None,
    budget: Mapping[str, float | str] | None = None,
    lossless: bool = False,
    teacher: nn.Module | None = None,
    importance: str | Importance = DEFAULT,
    keep_strong: bool = True,
    min_nodes: int | None = None,
    round_to: int | None = None,
    heads: str = "score",
    only: Sequence[str] | str = (),
    exclude: Sequence[str] | str = (),
    realign: bool | None = None,
    joint: bool = True,
    rounds: int | None = None,
    samples: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    strict: bool = False,
    example_input: Any = None,
    input_size: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str | None = None,
    transform: Callable[[Any], Any] | None = None,
    report: AlignmentReport | None = None,
    progress: Progress | None = None,
) -> PruneResult:
    """Cut nodes out of a copy of ``model``, without labels and without gradient steps.

    In every round the model is observed, the nodes that leave are chosen (`tsdistill.plan`), the layers that
    read them absorb what they gave, batch norms' running statistics follow, and the surviving nodes are
    fitted back to what they are in ``model`` (`tsdistill.pruning.realignment`). When a group turns out to be
    impossible to cut, the plan is made anew without it, so that the budget is met; a plan that was given is
    followed without it.

    Args:
        model: any module; it is left as it was.
        plan: what to cut. Without one, a budget is given and the plan is made here.
        data: what ``tsdistill.data.open_data`` takes; ``None`` for a synthetic source.
        macs: MACs that are kept: a part (``0.5``, ``"50%"``) or an amount (``"1.2G"``).
        params: parameters that are kept.
        nodes: prunable nodes that are kept.
        memory: peak memory of a forward pass that is kept, measured: a part, or ``"200MB"``.
        budget: any cost that is kept, by its name (see ``tsdistill plugins``): ``{"energy": 0.5}``.
        latency: time of a forward pass that is kept, measured on this device: a part, or ``"10ms"``.
        lossless: in place of a budget: only nodes leave whose loss leaves the function as it is.
        teacher: a model whose nodes the selection serves.
        importance: selection criterion, by name or as an object (see `tsdistill.plan`). What else is done is
            the same for all: layers that read what leaves are compensated, and ``realign`` fits what stays.
        keep_strong: teacher nodes weigh by strength (the toolkit's own criterion only).
        min_nodes: nodes that stay in every group, a tenth by default.
        round_to: groups that lose nodes end at a multiple of this.
        heads: what leaves an attention layer: ``"whole"`` heads, coordinates of all its heads (their
            ``"size"``; heads are written in bases of their own first, see `tsdistill.pruning.head_basis`), or
            whichever ``"score"`` says costs less. With a teacher, or lossless, heads go whole.
        only: patterns of names of groups; the others stay whole.
        exclude: patterns of names of groups that stay whole.
        realign: whether surviving nodes are fitted back to the dense model's; by default when the data are
            real.
        joint: whether re-alignment also moves the layers of a block together, which takes most of its time.
        rounds: in how many rounds the budget is reached; by default as many as let each keep about seven
            tenths (one without re-alignment).
        samples: how many samples to look at.
        batch_size: samples a forward pass.
        seed: of everything random.
        strict: a sample that cannot be read is an error; otherwise it is left out, counted and named.
        example_input: one input (batch 1) when the model does not know how its inputs look.
        input_size: shape of one sample, in place of what the model says.
        mean: per-channel mean, likewise.
        std: per-channel standard deviation, likewise.
        interpolation: of resizing, likewise.
        transform: replaces resizing, cropping and normalising.
        report: an analysis of this very model with its statistics (``analyze``, or ``survey`` for ``heads``),
            so that it is not made again.
        progress: is called with the phase, the samples done and how many there are.

    Raises:
        TsdistillError: no plan and no budget (or both), a plan of another type or that does not fit,
            a budget that cannot be met, re-alignment without real data, or anything that ``analyze`` raises.
    """
    named = {"macs": macs, "params": params, "nodes": nodes, "latency": latency, "memory": memory}
    named.update(budget or {})
    wanted = None
    if plan is not None and not isinstance(plan, PruningPlan):
        raise TsdistillError(
            f"plan takes a PruningPlan (PruningPlan.from_json(FILE) reads one), not {type(plan).__name__}"
        )
    if plan is None:
        wanted = asked(**named, lossless=lossless)
    elif lossless or any(each is not None for each in named.values()):
        raise TsdistillError(
            "both a plan and a budget are given; the plan has its budget, leave the other out"
        )
    check_heads(heads)
    plugins.get(IMPORTANCE, plugins.name_of(importance))
    if lossless and importance != DEFAULT:
        raise TsdistillError("lossless removes what costs nothing by any importance; leave one out")
    if lossless and rounds is not None:
        raise TsdistillError("lossless takes no rounds, all that costs nothing leaves at once; leave one out")
    if plan is not None and rounds is not None:
        raise TsdistillError("a plan is followed in one cut; leave rounds out, or give a budget in its place")
    prepared = prepare(
        model,
        data,
        samples=samples,
        batch_size=batch_size,
        seed=seed,
        strict=strict,
        example_input=example_input,
        input_size=input_size,
        mean=mean,
        std=std,
        interpolation=interpolation,
        transform=transform,
    )
    realigns = _realigns(realign, prepared, lossless)
    coming = pruning_stages(
        prepared.samples,
        rounds_expected(wanted, rounds, realigns),
        realigns=realigns,
        joint=joint,
        teacher=teacher is not None,
        analysed=plan is not None or report is not None,
    )
    expect(progress, coming)
    with call_layers(model, prepared.example):
        if plan is not None:
            course = _follow(model, plan, prepared, seed, progress)
            if realigns:
                course.realign(seed + 1, progress, turns=TURNS if joint else 0)  # as a run's only round
            described, graph, told = prepared.description, course.graph, []
        else:
            if report is None:
                every: dict[str, Any] = {"positions": None} if lossless else {}
                way = "whole" if lossless else heads
                report = survey_prepared(
                    model, teacher, prepared, heads=way, seed=seed, progress=progress, **every
                )
            choosing = {
                "importance": importance,
                "keep_strong": keep_strong,
                "min_nodes": min_nodes,
                "round_to": round_to,
                "only": only,
                "exclude": exclude,
            }
            descent = Descent(model, teacher, report, prepared, wanted, choosing, seed=seed)
            course = descent.go(rounds, realigns, progress, joint=joint)
            described, graph, told = report.data, report.graph, descent.notes
    return PruneResult(
        model=without_call_layers(course.model),
        plan=plan or course.plan(),
        report=report if plan is None else None,
        put_back=tuple(course.put_back.values()),
        before=graph.figures(),
        after=course.figures(),
        data=described,
        rounds=course.rounds,
        realigned=course.realigned.fitted if course.realigned else 0,
        notes=(*graph.notes, *told, *prepared.stream.notes, *course.notes()),
    )


def _realigns(realign: bool | None, prepared: Prepared, lossless: bool) -> bool:
    """Whether surviving nodes are fitted back.

    Raises:
        TsdistillError: it is asked for where it cannot be had.
    """
    if realign and lossless:
        raise TsdistillError(
            "lossless leaves the function as it is, nothing is to be re-aligned; leave one out"
        )
    if realign and prepared.synthetic:
        raise TsdistillError(
            "re-alignment needs real data, on synthetic samples it fits the nodes to what the model never "
            "sees; give --data (data=) or leave --realign out"
        )
    return (not prepared.synthetic and not lossless) if realign is None else realign


def _follow(
    model: nn.Module, plan: PruningPlan, prepared: Prepared, seed: int, progress: Progress | None
) -> Course:
    """Cut by a plan that was given, without the groups of it that cannot be cut."""
    tell(progress, TRACE)
    check_finite(model, "the model")
    graph = trace(model, prepared.example, others=inputs_for(model, prepared))
    if plan.by_size:
        found = rebase(model, graph, prepared.example, prepared, plan.by_size)
        if found is not None:
            model, graph = found.model, found.graph
    plan.check(graph)
    sites = find_sites(model, graph, set(plan.removed))
    observed = observe(model, sites, prepared, seed=seed, progress=progress)
    course = Course(model, graph, prepared)
    tell(progress, CUT)
    while not course.cut(plan, graph, sites, observed):
        pass
    return course
