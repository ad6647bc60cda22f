"""From statistics to the figures of one group's nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from tsdistill.alignment.matching.node_matching import NodeMatches, match_nodes
from tsdistill.alignment.report import GroupReport, Statistics
from tsdistill.alignment.thresholds import Thresholds
from tsdistill.statistics.block_sums import BlockMeans
from tsdistill.statistics.linear_prediction import elimination_r2, explained, precision_of, standardise
from tsdistill.statistics.moments import pooled
from tsdistill.statistics.redundancy import Relations, lossless_nodes
from tsdistill.statistics.sensitivity import (
    SiteSensitivity,
    fan_out_norm,
    sensitivity_of,
    standardised_fan_out_norm,
    strength_and_error,
)
from tsdistill.statistics.sites import GroupSite
from tsdistill.tracing.graph import Group, NodeGraph


@dataclass(frozen=True, eq=False)
class TeacherGroup:
    """The teacher's side of a pair: its group's name, the strength of its nodes and its standard error, how
    positions were compared."""

    name: str
    strength: np.ndarray
    strength_error: np.ndarray
    compared: str


@dataclass(frozen=True, eq=False)
class DescriptionContext:
    """What the description of every group of a model rests on.

    Attributes:
        model: the student.
        graph: its node graph.
        statistics: what was observed.
        sensitivity: of the output, by block of samples.
        products: what products of nodes add to the square of their strength, likewise.
        relations: exact relations at every site that was observed.
        spans: groups over which a norm or another statistic is taken.
        gated: groups whose nodes have gates that can be seen (see `rectified`).
        thresholds: where words begin to apply.
        metric: name of the metric whose matches come first.
        own: whether the model is its own teacher.
    """

    model: nn.Module
    graph: NodeGraph
    statistics: Statistics
    sensitivity: SiteSensitivity
    products: BlockMeans
    relations: Mapping[str, Relations]
    spans: set[str]
    gated: set[str]
    thresholds: Thresholds
    metric: str
    own: bool


@dataclass(frozen=True, eq=False)
class _Activity:
    """What a group's own activation says, one entry a node."""

    rows: int
    r2: np.ndarray
    leaving: np.ndarray
    on: np.ndarray
    dead: np.ndarray
    weak: np.ndarray
    saturated: np.ndarray


def describe_group(
    context: DescriptionContext, group: Group, partner: TeacherGroup | None, results: Mapping[str, np.ndarray]
) -> GroupReport:
    """All figures of one group.

    Args:
        context: the model and what is known about it.
        group: the group.
        partner: the teacher's group, ``None`` without one.
        results: what every metric says of the pair: tables ``[S, T]`` and single figures.
    """
    statistics, thresholds, own = context.statistics, context.thresholds, context.own
    covariances = statistics.observed.covariances
    readings = tuple(r for r in statistics.sites.readings.get(group.name, ()) if r.site in covariances)
    size = group.size
    products = statistics.products.get(group.name, np.zeros(size))
    powers, errors = strength_and_error(
        readings, covariances, context.sensitivity, size, context.products, group.name
    )
    activity = _activity(context, group, readings, powers, products > 0)
    redundant = (activity.r2 >= thresholds.redundant) & ~activity.dead
    candidate = activity.dead | activity.weak | (activity.leaving >= thresholds.redundant)
    if candidate.all():
        candidate[int(np.argmax(powers))] = False
    strengths = powers if own else (partner.strength if partner else np.zeros(0))
    teacher_errors = errors if own else (partner.strength_error if partner else np.zeros(0))
    matches = _matches(context, results)
    first = matches.get(context.metric)
    similarity = first.similarity if first else np.zeros(size)
    best = first.best if first else np.full(size, -1)
    teacher_best = first.teacher_similarity if first else np.zeros(len(strengths))
    kept = {group.name: size - int(candidate.sum())}
    graph = context.graph
    return GroupReport(
        name=group.name,
        size=size,
        readers=tuple(reader.module or reader.param for reader in group.readers),
        teacher_group=group.name if own else (partner.name if partner else None),
        teacher_size=len(strengths),
        observed=bool(readings),
        samples=activity.rows,
        fan_out_norm=fan_out_norm(context.model, group),
        standardised_norm=standardised_fan_out_norm(context.model, readings, covariances, size),
        sensitivity=np.sqrt(sensitivity_of(readings, statistics.sensitivity, size)),
        strength=powers,
        strength_error=errors,
        best=best,
        similarity=similarity,
        teacher_strength=strengths,
        teacher_strength_error=teacher_errors,
        teacher_best=teacher_best,
        matches=matches,
        scores={name: float(v) for name, v in results.items() if not v.ndim and np.isfinite(v)},
        compared=partner.compared if partner else "",
        r2=activity.r2,
        leaving_r2=activity.leaving,
        on=activity.on,
        dead=activity.dead,
        saturated=activity.saturated,
        weak=activity.weak,
        redundant=redundant,
        aligned=(best >= 0) & (similarity >= thresholds.aligned),
        free=(products == 0)
        & lossless_nodes(
            context.model, group, statistics.sites, context.relations, statistics.taking, context.spans
        ),
        candidate=candidate,
        teacher_aligned=int((teacher_best >= thresholds.aligned).sum()),
        params_saved=graph.params() - graph.params(kept),
        macs_saved=graph.macs() - graph.macs(kept),
    )


def _activity(
    context: DescriptionContext,
    group: Group,
    readings: tuple[GroupSite, ...],
    powers: np.ndarray,
    multiplied: np.ndarray,
) -> _Activity:
    """Nodes that are ``multiplied`` with one another count by more than what is read, which alone could be
    constant or predicted."""
    nothing = np.zeros(group.size)
    if not readings:
        no = nothing > 0
        return _Activity(0, nothing, nothing, nothing, no, no, no)
    covariances = context.statistics.observed.covariances
    seen = [(covariances[reading.site], reading.features) for reading in readings]
    covariance, features = seen[-1]
    dead = np.all([(c.var[f] == 0).all(1) for c, f in seen], axis=0) & ~multiplied
    weak = ((powers < context.thresholds.weak * powers.max()) | (powers == 0)) & ~dead
    matrix = pooled(covariance, features)[1]
    correlation = standardise(matrix, np.sqrt(np.clip(np.diag(matrix), 0, None)))
    rows = covariance.rows * features.shape[1]
    precision = precision_of(correlation, rows)
    leaving = elimination_r2(correlation, dead | weak, rows, powers, precision)
    always = np.all([(c.on[f] == 1).all(1) for c, f in seen], axis=0)
    never_below = min(float(c.lowest[f].min()) for c, f in seen) >= 0
    gated = never_below and group.name in context.gated
    return _Activity(
        rows=rows,
        r2=np.where(multiplied, 0.0, explained(correlation, rows, precision)),
        leaving=np.where(multiplied, 0.0, leaving),
        on=covariance.on[features].mean(1),
        dead=dead,
        weak=weak,
        saturated=always & ~dead & gated,
    )


def _matches(context: DescriptionContext, results: Mapping[str, np.ndarray]) -> dict[str, NodeMatches]:
    tables = [name for name, value in results.items() if value.ndim]
    ordered = sorted(tables, key=lambda name: name != context.metric)
    return {name: match_nodes(name, results[name], own=context.own) for name in ordered}
