"""``prune``: analyze and plan where that is wanted, absorb, cut; a new model comes out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from tsdistill.alignment.analysis import analyze_prepared
from tsdistill.alignment.observing.inputs import prepare
from tsdistill.alignment.observing.observe import Observation, observe
from tsdistill.alignment.observing.sites import Sites, find_sites
from tsdistill.alignment.report import AlignmentReport
from tsdistill.errors import TsdistillError
from tsdistill.models import Attribute, ModelInfo, attach, info_of
from tsdistill.models.weights import check_finite
from tsdistill.pruning.absorbing.absorb import absorb
from tsdistill.pruning.absorbing.norms import match_norms
from tsdistill.pruning.choosing.budget import budget_of
from tsdistill.pruning.choosing.planning import plan as make_plan
from tsdistill.pruning.pruning_plan import PruningPlan
from tsdistill.tracing import Cut, cut, trace
from tsdistill.tracing.graph import Frozen, NodeGraph


@dataclass(frozen=True, eq=False)
class PruneResult:
    """A pruned model and how it came about.

    Attributes:
        model: the smaller model; the original is as it was.
        plan: the plan that was followed.
        report: the alignment report behind it, ``None`` when the plan was given.
        put_back: groups of the plan that could not be cut and are whole, and why.
        before: ``{"params", "macs", "nodes"}`` of the original.
        after: the same of the smaller model (as it is, groups that were put back included).
        data: description of the data that the readers absorbed with.
        notes: lines for the user.
    """

    model: nn.Module
    plan: PruningPlan
    report: AlignmentReport | None
    put_back: tuple[Frozen, ...]
    before: Mapping[str, int]
    after: Mapping[str, int]
    data: str
    notes: tuple[str, ...]


def prune(
    model: nn.Module,
    plan: PruningPlan | None = None,
    *,
    data: Any = None,
    macs: float | str | None = None,
    params: float | str | None = None,
    nodes: float | str | None = None,
    teacher: nn.Module | None = None,
    keep_strong: bool = True,
    min_nodes: int | None = None,
    samples: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    example_input: Any = None,
    input_size: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str | None = None,
    transform: Callable[[Any], Any] | None = None,
) -> nn.Module:
    """A smaller copy of ``model``: the ``model`` of ``prune_result``, which explains the arguments."""
    return prune_result(
        model,
        plan,
        data=data,
        macs=macs,
        params=params,
        nodes=nodes,
        teacher=teacher,
        keep_strong=keep_strong,
        min_nodes=min_nodes,
        samples=samples,
        batch_size=batch_size,
        seed=seed,
        example_input=example_input,
        input_size=input_size,
        mean=mean,
        std=std,
        interpolation=interpolation,
        transform=transform,
    ).model


def prune_result(
    model: nn.Module,
    plan: PruningPlan | None = None,
    *,
    data: Any = None,
    macs: float | str | None = None,
    params: float | str | None = None,
    nodes: float | str | None = None,
    teacher: nn.Module | None = None,
    keep_strong: bool = True,
    min_nodes: int | None = None,
    samples: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    example_input: Any = None,
    input_size: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str | None = None,
    transform: Callable[[Any], Any] | None = None,
    report: AlignmentReport | None = None,
) -> PruneResult:
    """Cut nodes out of a copy of ``model`` and let the layers that read them absorb what they gave.

    Batch norms' running statistics follow (`match_norms`). When a group turns out to be impossible to cut,
    the plan is made anew without it, so that the budget is met; a plan that was given is followed without it.

    Args:
        model: any module; it is left as it was.
        plan: what to cut. Without one, a budget is given and the plan is made here.
        data: what ``tsdistill.data.open_data`` takes; ``None`` for a synthetic source.
        macs: part of the MACs that is kept.
        params: part of the parameters that is kept.
        nodes: part of the prunable nodes that is kept.
        teacher: a model whose nodes the selection serves.
        keep_strong: teacher nodes weigh by strength.
        min_nodes: nodes that stay in every group, a tenth by default.
        samples: how many samples to look at.
        batch_size: samples a forward pass.
        seed: of everything random.
        example_input: one input (batch 1) when the model does not know how its inputs look.
        input_size: shape of one sample, in place of what the model says.
        mean: per-channel mean, likewise.
        std: per-channel standard deviation, likewise.
        interpolation: of resizing, likewise.
        transform: replaces resizing, cropping and normalising.
        report: an analysis of this very model with its statistics, so that it is not made again.

    Raises:
        TsdistillError: no plan and no budget (or both), a plan that does not fit, a budget that cannot be
            met, or anything that ``analyze`` raises.
    """
    opening: dict[str, Any] = {
        "samples": samples,
        "batch_size": batch_size,
        "seed": seed,
        "example_input": example_input,
        "input_size": input_size,
        "mean": mean,
        "std": std,
        "interpolation": interpolation,
        "transform": transform,
    }
    if plan is not None and any(budget is not None for budget in (macs, params, nodes)):
        raise TsdistillError(
            "both a plan and a budget are given; the plan has its budget, leave the other out"
        )
    if plan is None:
        budget_of(macs, params, nodes)
    prepared = prepare(model, data, **opening)
    if plan is None and report is None:
        report = analyze_prepared(model, teacher, prepared, seed=seed)
    if report is not None:
        graph, sites, observed = report.graph, report.statistics.sites, report.statistics.observed
        described = report.data
    else:
        assert plan is not None
        check_finite(model, "the model")
        graph = trace(model, prepared.example)
        plan.check(graph)
        sites = find_sites(model, graph, set(plan.removed))
        observed = observe(model, sites, prepared, seed=seed)
        described = prepared.description
    put_back: dict[str, Frozen] = {}
    given = plan
    while True:
        if given is None:
            assert report is not None
            plan = make_plan(
                report,
                macs=macs,
                params=params,
                nodes=nodes,
                keep_strong=keep_strong,
                min_nodes=min_nodes,
                whole=put_back,
            )
        assert plan is not None
        plan.check(graph)
        leaving = {name: gone for name, gone in plan.removed.items() if name not in put_back}
        done, skipped = _cut(model, graph, sites, observed, leaving, prepared.example)
        if not done.put_back:
            break
        put_back.update({item.name: item for item in done.put_back})
    match_norms(model, done.model, graph, done.removed, prepared)
    kept = {name: size - len(done.removed.get(name, ())) for name, size in graph.widths.items()}
    notes = [f"group {item.name!r} could not be cut and is whole: {item.cause}" for item in put_back.values()]
    if skipped:
        notes.append(f"these layers lost nodes without absorbing them: {', '.join(skipped)}")
    attach(done.model, _history(info_of(model), done))
    return PruneResult(
        model=done.model,
        plan=plan,
        report=report,
        put_back=tuple(put_back.values()),
        before=_figures(graph, graph.widths),
        after=_figures(graph, kept),
        data=described,
        notes=tuple(notes),
    )


def _cut(
    model: nn.Module,
    graph: NodeGraph,
    sites: Sites,
    observed: Observation,
    removed: Mapping[str, list[int]],
    example: Any,
) -> tuple[Cut, Collection[str]]:
    """Absorb in a copy and cut it; also the layers that lost nodes without absorbing them."""
    whole = copy.deepcopy(model)
    arrays = {name: np.array(nodes, dtype=np.int64) for name, nodes in removed.items()}
    skipped = absorb(whole, sites, observed, arrays, example)
    return cut(whole, graph, removed, example), skipped


def _history(info: ModelInfo, done: Cut) -> ModelInfo:
    """What is known about the model, with the cut's attributes and buffers added to those of earlier cuts."""
    attributes: dict[tuple[str, str], Attribute] = {
        (item.module, item.name): item for item in (*info.attributes, *done.attributes)
    }
    return replace(
        info,
        attributes=tuple(attributes.values()),
        buffers=tuple(dict.fromkeys((*info.buffers, *done.buffers))),
    )


def _figures(graph: NodeGraph, kept: Mapping[str, int]) -> dict[str, int]:
    return {"params": graph.params(kept), "macs": graph.macs(kept), "nodes": sum(kept.values())}
