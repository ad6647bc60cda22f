"""``trace``: the node graph of a model. ``cut``: a copy of the model without some nodes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.models.info import Attribute
from tsdistill.models.requirements import check_open
from tsdistill.runtime.exclusive import without_collector
from tsdistill.runtime.modes import Inputs, plain_evaluation, run
from tsdistill.runtime.unchanged import unchanged
from tsdistill.tracing.additional_runs import (
    add_companions,
    add_further_runs,
    runs_in_training,
    trace_training,
)
from tsdistill.tracing.attention_scale import ActivationGains, fold_scales
from tsdistill.tracing.block_axes import other_axes
from tsdistill.tracing.coupled_widths import WidthCoupling, coupling_notes, width_couplings
from tsdistill.tracing.cut_verification import disagreement, failure_in_use
from tsdistill.tracing.graph import Frozen, NodeGraph
from tsdistill.tracing.labelled_run import record
from tsdistill.tracing.node_groups import build, freeze_groups
from tsdistill.tracing.repair import repair
from tsdistill.tracing.replay import CutRun, ReplayResult, within
from tsdistill.tracing.shape_attributes import predict_attributes
from tsdistill.tracing.surgery import Nodes, checked, remove_coordinates, removed_mask
from tsdistill.tracing.trace_record import Trace
from tsdistill.tracing.unused_parameters import unite_unrun, unrun_widths
from tsdistill.tracing.validation_cut import validation_cut, validation_cut_count


@dataclass(frozen=True, eq=False)
class Cut:
    """A smaller model and how it came about.

    Attributes:
        model: the cut copy, in the training mode of the original.
        removed: the nodes that went, by group.
        put_back: groups that were to be cut and are not, and why.
        attributes: shape constants that were set on modules.
        buffers: non-persistent buffers that were cut (they have to be stored with the weights).
        gains: by which factors activations were scaled (see `tracing.attention_scale`).
    """

    model: nn.Module
    removed: dict[str, np.ndarray]
    put_back: tuple[Frozen, ...]
    attributes: tuple[Attribute, ...]
    buffers: tuple[str, ...]
    gains: ActivationGains = field(default_factory=dict)


@unchanged
@without_collector()
def trace(
    model: nn.Module,
    example_input: Inputs,
    *,
    check: bool = True,
    like: NodeGraph | None = None,
    axes: Mapping[str, int] | None = None,
    others: Iterable[Inputs] = (),
) -> NodeGraph:
    """Find the groups of nodes of ``model`` that can be removed.

    Args:
        model: any module; it is not changed.
        example_input: a tensor, a tuple of arguments or a dict of keyword arguments, batch size 1.
        check: cut about half of every group, compare with the whole model whose removed nodes are zeroed
            where they are read, and exclude the groups that fail (named in ``NodeGraph.frozen``).
        like: the graph of the same network at another width: a block that may go by rows or by columns (a
            grouped convolution) goes as it does there.
        axes: name of such a block -> the axis that it is to go by, as in ``Record.head_size_axes``.
        others: further inputs, such as batches of calibration data. They are looked at only where the example
            leaves parameters unread (experts that no token goes to, heads of other tasks), until all are
            read. What nothing reads is named in ``NodeGraph.notes``; widths that could be its are not pruned.

    Raises:
        TsdistillError: the forward fails.
    """
    check_open(model)
    start = time.perf_counter()
    traced = record(model, example_input)
    _fix_scripted(model, traced)
    training_only, unreached = trace_training(model, example_input, traced)
    behind = _run_more(model, example_input, traced, {each.param for each in unreached}, like, others)
    for each in traced.every:
        predict_attributes(model, each)
    if like is not None and like.record is not None:
        axes = {**like.record.axes, **(axes or {})}
    refused: dict[str, set[int]] = {}
    graph, notes = _graph_with_unrun(model, traced, axes, behind)
    tied: set[tuple[bytes, bytes]] = set()
    turn = 0
    while check and graph.groups:
        trial = validation_cut(graph, turn)
        outcome = _attempt(model, graph, trial, example_input)
        if not outcome.failed:
            turn += 1
            if turn < validation_cut_count(graph):
                continue
            if not training_only or runs_in_training(outcome.model, example_input):
                break
            for dim_labels in training_only:
                traced.constraints.freeze(dim_labels.labels, "is read in training only")
            training_only, graph = (), build(model, traced, axes, refused)
            continue
        new = {tie.key: tie for tie in outcome.couplings}
        if not new.keys() <= tied:
            again = _attempt(model, graph, validation_cut(graph, turn, other=True), example_input)
            sure = new.keys() & {tie.key for tie in again.couplings}
            new = {key: tie for key, tie in new.items() if key in sure or not sure}
            for tie in new.values():
                traced.constraints.couple(tie.one, tie.other)
                axes = {**tie.axes, **(axes or {})}
            tied |= new.keys()
            graph = build(model, traced, axes, refused)
            continue
        names = {item.name: item.cause for item in outcome.failed}
        for name, cause in names.items():
            if not other_axes(graph, graph.by_name[name], refused):
                freeze_groups(traced, [graph.by_name[name]], cause)
        graph = build(model, traced, axes, refused)
    return replace(graph, seconds=time.perf_counter() - start, notes=(*notes, *coupling_notes(graph)))


def _fix_scripted(model: nn.Module, trace: Trace) -> None:
    """Leave the parameters of scripted modules as they are: a copy has theirs, whatever takes their place."""
    scripted = [name for name, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    for dim_labels in trace.constraints.parameter_dims:
        owner = next((name for name in scripted if dim_labels.param.startswith(f"{name}.")), None)
        if owner is not None:
            cause = f"is a width of {owner}, which is scripted; give the module that it was made from"
            trace.constraints.freeze(dim_labels.labels, cause)


def _run_more(
    model: nn.Module,
    example: Inputs,
    trace: Trace,
    unrun: set[str],
    like: NodeGraph | None,
    others: Iterable[Inputs],
) -> dict[str, str]:
    """Add runs to ``trace`` that read the parameters ``unrun``; module -> the one like it that it ran behind.

    What the data did not run when the network was traced at another width is not looked for in them again.
    """
    if not unrun:
        return {}
    before = None if like is None or like.record is None else like.record.trace
    known = further_inputs(like) if like is not None else []
    left = add_further_runs(model, trace, unrun, known)
    if left and not (before and left <= before.unrun):
        left = add_further_runs(model, trace, left, others)
    trace.unrun = frozenset(left)
    trace.unread, behind = add_companions(model, trace, example, left) if left else (set(), {})
    return behind


def further_inputs(graph: NodeGraph) -> list[Inputs]:
    """The inputs besides the example that ``graph`` was traced on, to trace a model like it on."""
    further = graph.record.trace.further_runs if graph.record is not None else []
    return [run.inputs for run in further if not run.companions]


def _graph_with_unrun(
    model: nn.Module, trace: Trace, axes: Mapping[str, int] | None, behind: Mapping[str, str]
) -> tuple[NodeGraph, tuple[str, ...]]:
    """The node graph in which no width that could be that of an unused parameter is prunable, and notes."""
    graph = build(model, trace, axes)
    if not trace.unrun:
        return graph, ()
    widths = unrun_widths(model, graph, trace.unread, behind)
    unite_unrun(trace, widths)
    unread, notes = trace.unread - widths.along.keys(), dict.fromkeys(widths.notes)
    while True:
        for name, cause in widths.whole.items():
            freeze_groups(trace, [graph.by_name[name]], cause)
        graph = build(model, trace, axes)
        widths = unrun_widths(model, graph, unread, behind)
        if not widths.whole:
            return graph, tuple(notes)
        notes.update(dict.fromkeys(widths.notes))


@unchanged
@without_collector()
def cut(model: nn.Module, graph: NodeGraph, removed: Mapping[str, Nodes], example_input: Inputs) -> Cut:
    """Remove nodes from a copy of ``model``; nothing is absorbed by what stays.

    The copy must give the output of the original with the removed nodes zeroed where their fan-out reads
    them (where a norm spans them, with that norm's statistics over the nodes that stay), and run as the
    original does with PyTorch's fused kernels, in inference mode and in training mode. A group that fails is
    put back.

    Raises:
        TsdistillError: a group or node that does not exist, a group that would be empty, a forward that
            fails.
    """
    wanted = checked(graph, removed)
    if graph.record is None:
        graph = _require_groups(trace(model, example_input, check=False), graph)
    if graph.traced.trace.cached:
        with plain_evaluation(model):
            run(model, example_input)
    put_back: list[Frozen] = []
    while True:
        outcome = _attempt(model, graph, wanted, example_input, in_use=True)
        if not outcome.failed:
            return Cut(
                outcome.model,
                wanted,
                tuple(put_back),
                tuple(outcome.attributes),
                outcome.buffers,
                outcome.gains,
            )
        put_back += outcome.failed
        for item in outcome.failed:
            wanted.pop(item.name, None)


@dataclass(frozen=True, eq=False)
class _Outcome:
    model: nn.Module
    attributes: list[Attribute]
    buffers: tuple[str, ...]
    failed: list[Frozen]
    couplings: list[WidthCoupling] = field(default_factory=list)
    gains: ActivationGains = field(default_factory=dict)


def _attempt(
    model: nn.Module,
    graph: NodeGraph,
    removed: Mapping[str, np.ndarray],
    inputs: Inputs,
    *,
    in_use: bool = False,
) -> _Outcome:
    """Cut, repair attributes, compare; on failure name the groups that cannot be cut."""
    leaving = removed_mask(graph, removed)
    small, buffers = remove_coordinates(model, graph, removed)
    if not removed:
        return _Outcome(small, [], buffers, [])
    attributes: list[Attribute] = []
    before: dict[tuple[str, str], Any] = {}
    replays: list[ReplayResult] = []
    runs = [CutRun(small, example, record_, leaving) for example, record_ in graph.traced.runs(inputs)]
    for run_ in runs:
        more, replayed = repair(run_, before)
        attributes += more
        before |= {(a.module, a.name): getattr(model.get_submodule(a.module), a.name) for a in more}
        if not replayed.clean:
            blamed = _groups_at_fault(replace(graph, record=run_.record), removed, leaving, replayed)
            return _Outcome(small, attributes, buffers, blamed, width_couplings(run_, replayed))
        replays.append(replayed)
    gains = _fold_all(small, graph, removed, runs, replays)
    if gains or len(runs) > 1:
        replays = [run_.replay() for run_ in runs]
    for run_, replayed in zip(runs, replays, strict=True):
        problem = disagreement(run_, model, replayed.output)
        if problem is None and in_use and not run_.record.companions:
            problem = failure_in_use(small, model, run_.inputs, training=run_.record.trace.reads_training)
        if problem is not None:
            blamed = _bisect(model, graph, removed, inputs, problem, in_use=in_use)
            return _Outcome(small, attributes, buffers, blamed)
    return _Outcome(small, attributes, buffers, [], gains=gains)


def _fold_all(
    small: nn.Module,
    graph: NodeGraph,
    removed: Mapping[str, np.ndarray],
    runs: Sequence[CutRun],
    replays: Sequence[ReplayResult],
) -> ActivationGains:
    """`fold_scales` for what each run scales in modules that no run before it does."""
    gains: ActivationGains = {}
    known: set[str] = set()
    for run_, replayed in zip(runs, replays, strict=True):
        scaled = [(step, ratio) for step, ratio in replayed.scaled if step.module not in known]
        known |= {step.module for step, _ in scaled}
        for key, own in fold_scales(small, replace(graph, record=run_.record), removed, scaled).items():
            gains[key] = gains[key] * own if key in gains else own
    return gains


def _groups_at_fault(
    graph: NodeGraph, removed: Mapping[str, np.ndarray], leaving: np.ndarray, result: ReplayResult
) -> list[Frozen]:
    """The groups whose sizes a module computes in a way that no attribute explains."""
    blamed: dict[str, str] = {}
    for item in result.stale:
        cause = f"{item.step.module or 'the model'} computes {item.computed} where the cut has {item.wanted}"
        own = _losing(graph, [labels for _, _, labels in item.step.sizes], leaving)
        for name in own or _losing_at(graph, item.step.module, leaving):
            blamed.setdefault(name, cause)
    if result.broken is not None and not blamed:
        module = result.broken
        cause = f"{module or 'the model'} breaks when it is cut: {result.cause}"
        names = _losing_at(graph, module, leaving)
        while not names and module:
            module = module.rpartition(".")[0]
            names = _losing_at(graph, module, leaving)
        blamed = dict.fromkeys(names, cause)
    if not blamed:
        blamed = dict.fromkeys(removed, "its cut cannot be explained by the trace")
    return [Frozen(name, cause) for name, cause in sorted(blamed.items())]


def _bisect(
    model: nn.Module,
    graph: NodeGraph,
    removed: Mapping[str, np.ndarray],
    inputs: Inputs,
    problem: str,
    *,
    in_use: bool,
) -> list[Frozen]:
    """Halve the set of groups until the ones that fail by themselves are found."""
    names = list(removed)
    if len(names) == 1:
        return [Frozen(names[0], problem)]
    failed: list[Frozen] = []
    for half in (names[: len(names) // 2], names[len(names) // 2 :]):
        part = {name: removed[name] for name in half}
        failed += _attempt(model, graph, part, inputs, in_use=in_use).failed
    return failed or [Frozen(name, f"only together with others: {problem}") for name in names]


def _losing(graph: NodeGraph, labels: Sequence[np.ndarray], leaving: np.ndarray) -> list[str]:
    """The groups that lose nodes among those of ``labels``."""
    nodes = np.unique(np.concatenate([graph.traced.node_of[each].ravel() for each in labels] or [[-1]]))
    return graph.groups_of(nodes[leaving[nodes]])


def _losing_at(graph: NodeGraph, module: str, leaving: np.ndarray) -> list[str]:
    """The groups that lose nodes and are touched by operators of ``module`` or below it."""
    steps = [step for step in graph.traced.trace.steps if not module or within(step.module, module)]
    return _losing(graph, [labels for step in steps for labels in step.touched], leaving)


def _require_groups(traced: NodeGraph, wanted: NodeGraph) -> NodeGraph:
    """``traced``, which has to have every group of ``wanted``."""
    for group in wanted.groups:
        match = traced.by_name.get(group.name)
        if match is None or match.size != group.size:
            raise TsdistillError(f"group {group.name} of {group.size} nodes is not a group of this model")
    return traced
