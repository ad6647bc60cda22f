"""The analysis that pruning goes by: attention head by head, or by the coordinates of its heads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from tsdistill.alignment.analysis import analyze_prepared, run_example
from tsdistill.alignment.report import AlignmentReport, Statistics
from tsdistill.models.files.stored_weights import check_finite
from tsdistill.options.analysis_options import AnalysisOptions
from tsdistill.options.data_options import DataOptions
from tsdistill.options.old_names import grouped
from tsdistill.options.option_fields import written
from tsdistill.options.pruning_options import SelectionOptions
from tsdistill.pruning.head_basis import RewrittenHeads, rewrite_heads, traced_like
from tsdistill.pruning.pruning_stages import BASES
from tsdistill.pruning.selection.obs import NodePenalty, OBSState, eliminate
from tsdistill.pruning.selection.pruning_order import own_states
from tsdistill.runtime.call_layers import observing_calls
from tsdistill.runtime.latency import measure_pass
from tsdistill.runtime.progress import Progress, expect, tell
from tsdistill.runtime.unchanged import unchanged
from tsdistill.statistics.analysis_stages import CHECK, TRACE, analysis_stages
from tsdistill.statistics.prepared_data import PreparedData, inputs_for, prepare
from tsdistill.statistics.sites import find_sites
from tsdistill.tracing import trace
from tsdistill.tracing.graph import NodeGraph

PRUNING = AnalysisOptions(strength_target=None)
"""How nodes are compared for pruning: strength is measured in one backward pass of its samples."""


@grouped(analysis=AnalysisOptions, inputs=DataOptions)
@unchanged
def analyze_for_pruning(
    model: nn.Module,
    teacher: nn.Module | None = None,
    data: Any = None,
    *,
    heads: str = "score",
    analysis: AnalysisOptions | Mapping[str, Any] = PRUNING,
    inputs: DataOptions | Mapping[str, Any] = DataOptions(),
    seed: int = 0,
    progress: Progress | None = None,
) -> AlignmentReport:
    """``analyze`` for pruning: with heads in bases of their own where that is asked for.

    Args:
        model: it is left as it was; the report's nodes may be those of a copy that computes the same
            (``report.statistics.rebased``).
        teacher: a model whose nodes the selection serves; with one, heads are removed as
            a whole, as its nodes are.
        data: what ``tsdistill.data.open_data`` takes; ``None`` for a synthetic source.
        heads: what leaves an attention layer: ``"whole"`` heads, coordinates of all its heads (their
            ``"size"``), or whichever ``"score"`` says costs less, layer by layer.
        analysis: how nodes are compared; by default strength is measured in one backward pass.
        inputs: how samples are read and how inputs look.
        seed: of everything random.
        progress: is called with the phase, the samples done and how many there are.

    Raises:
        TsdistillError: there is no such way for heads, or anything that ``analyze`` raises.
    """
    prepared = prepare(model, data, DataOptions.of(inputs), teacher=teacher, seed=seed)
    if isinstance(analysis, Mapping):
        analysis = replace(PRUNING, **analysis)
    return analyze_prepared_for_pruning(
        model, teacher, prepared, analysis, heads=heads, seed=seed, progress=progress
    )


def analysis_options(lossless: bool) -> AnalysisOptions:
    """How a model is analysed for pruning; at every position where what costs nothing is looked for."""
    return replace(PRUNING, positions=None) if lossless else PRUNING


@observing_calls
def analyze_prepared_for_pruning(
    model: nn.Module,
    teacher: nn.Module | None,
    prepared: PreparedData,
    analysis: AnalysisOptions = PRUNING,
    *,
    heads: str = "score",
    seed: int = 0,
    progress: Progress | None = None,
) -> AlignmentReport:
    """``analyze_for_pruning`` on data that have been opened."""
    SelectionOptions(heads=heads)
    how: dict[str, Any] = {"analysis": analysis, "seed": seed, "progress": progress}
    if teacher is not None or heads == "whole":
        return analyze_prepared(model, teacher, prepared, **how)
    expect(progress, analysis_stages(prepared.samples))
    tell(progress, CHECK)
    check_finite(model, "the model")
    run_example(model, prepared.example, "model")
    measure_pass(progress, model, prepared.example)
    tell(progress, TRACE)
    graph = trace(model, prepared.example, others=inputs_for(model, prepared))
    tell(progress, BASES)
    rewritten = rewrite_heads(model, graph, prepared.example, prepared)
    if rewritten is None:
        return analyze_prepared(model, None, prepared, graph=graph, **how)
    report = _observed(rewritten, prepared, how)
    if heads == "score":
        whole = cheaper_whole(report, model, graph)
        if whole:
            rewritten = _without(rewritten, prepared.example, graph, whole)
            if not rewritten.queries:
                return analyze_prepared(model, None, prepared, graph=graph, **how)
            report = _observed(rewritten, prepared, how)
    return report


def graph_of(model: nn.Module, example: Any, by_size: Collection[str] = ()) -> NodeGraph:
    """The node graph of a model in which the groups ``by_size`` go by coordinates of heads."""
    graph = trace(model, example)
    return traced_like(model, example, graph, by_size) if by_size else graph


def _observed(rewritten: RewrittenHeads, prepared: PreparedData, how: Mapping[str, Any]) -> AlignmentReport:
    report = analyze_prepared(
        rewritten.model, None, prepared, graph=rewritten.graph, queries=rewritten.queries, **how
    )
    layers = len(rewritten.queries)
    note = (
        f"{layers} attention layer{'s' * (layers > 1)} may lose coordinates of all heads, in bases of their "
        f"own ({written('heads', 'whole')}: heads instead)"
    )
    statistics = replace(report.statistics, rebased=rewritten.model)
    return replace(report, statistics=statistics, notes=(*report.notes, note))


def _without(rewritten: RewrittenHeads, example: Any, graph: NodeGraph, whole: set[str]) -> RewrittenHeads:
    """The same with whole heads in some groups."""
    queries = {name: item for name, item in rewritten.queries.items() if name not in whole}
    sized = traced_like(rewritten.model, example, graph, queries)
    return RewrittenHeads(rewritten.model, sized, queries)


def cheaper_whole(report: AlignmentReport, model: nn.Module, graph: NodeGraph) -> set[str]:
    """Attention layers that lose less with half of their heads gone than with as much of every head.

    Args:
        report: of a model in which coordinates of heads are nodes.
        model: that model, or one that computes the same.
        graph: its node graph with whole heads as nodes.
    """
    whole_heads = set()
    for name, products in report.statistics.products.items():
        group = graph.by_name.get(name)
        if group is None or group.size < 2:
            continue
        part = group.size // 2 / group.size
        sites = find_sites(model, graph, {name})
        whole = _cost(graph, replace(report.statistics, sites=sites), name, np.zeros(group.size), part)
        sized = _cost(report.graph, report.statistics, name, products, part)
        if whole < sized:
            whole_heads.add(name)
    return whole_heads


def _cost(graph: NodeGraph, statistics: Statistics, name: str, penalty: np.ndarray, part: float) -> float:
    """What it costs when ``part`` of a group's nodes leave, the cheapest first."""
    size = graph.by_name[name].size
    own = own_states(graph, statistics, [name], np.zeros(1, dtype=np.int64), True)
    states: list[OBSState | NodePenalty] = [*own, NodePenalty(penalty)]
    floor = np.array([size - round(size * part)])
    owner, free = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=bool)
    return float(eliminate(states, owner, floor, np.ones(size), free)[1].sum())
