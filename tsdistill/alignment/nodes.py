"""From statistics to the figures of one group's nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from tsdistill.alignment.exact import Relations, free_nodes
from tsdistill.alignment.linear import explained, removable, standardise
from tsdistill.alignment.metrics import MomentMetric
from tsdistill.alignment.moments import Moments, own_moments, pooled
from tsdistill.alignment.report import GroupReport, Statistics, Thresholds
from tsdistill.alignment.sites import Reading
from tsdistill.alignment.strength import fan_out_norm, standardised_fan_out_norm, strength
from tsdistill.tracing.graph import Group, NodeGraph


@dataclass(frozen=True, eq=False)
class Partner:
    """The teacher's side of a pair: its group's name and the strength of its nodes."""

    name: str
    strength: np.ndarray


def describe_group(
    model: nn.Module,
    graph: NodeGraph,
    group: Group,
    statistics: Statistics,
    metric: MomentMetric,
    thresholds: Thresholds,
    partner: Partner | None,
    own: bool,
    found: Mapping[str, Relations],
) -> GroupReport:
    """All figures of one group.

    Args:
        model: the student.
        graph: its node graph.
        group: the group.
        statistics: what was observed.
        metric: gives the best matches.
        thresholds: where words begin to apply.
        partner: the teacher's group, ``None`` without one.
        own: whether the model is its own teacher.
        found: exact relations at every site that was observed.
    """
    readings = statistics.sites.readings.get(group.name, ())
    covariances = statistics.observed.covariances
    readings = tuple(reading for reading in readings if reading.site in covariances)
    size = group.size
    zeros = np.zeros(size)
    norms: dict[str, np.ndarray] = {
        "fan_out_norm": fan_out_norm(model, group),
        "standardised_norm": standardised_fan_out_norm(model, readings, covariances, size),
        "sensitivity": np.sqrt(_sensitivity(readings, statistics.sensitivity, size)),
    }
    powers = strength(readings, covariances, statistics.sensitivity)
    powers = zeros if powers is None else powers
    moments = _moments(group.name, readings, statistics, own)
    r2, dead, redundant, candidate, rows = zeros, zeros > 0, zeros > 0, zeros > 0, 0
    weak = zeros > 0
    if readings:
        weak = (powers < thresholds.weak * powers.max()) | (powers == 0)
        primary = readings[-1]
        covariance = covariances[primary.site]
        dead = np.all([(covariances[r.site].var[r.features] == 0).all(1) for r in readings], axis=0)
        weak = weak & ~dead
        matrix = pooled(covariance, primary.features)[1]
        correlation = standardise(matrix, np.sqrt(np.clip(np.diag(matrix), 0, None)))
        rows = covariance.rows * primary.features.shape[1]
        r2 = explained(correlation, rows)
        redundant = (r2 >= thresholds.redundant) & ~dead
        leaves = removable(correlation, dead | weak, thresholds.redundant, rows, powers)
        candidate = dead | weak | leaves
        if candidate.all():
            candidate[int(np.argmax(powers))] = False
    best, similarity, teacher_best = _matches(metric, moments, size, own)
    strengths = powers if own else (partner.strength if partner else np.zeros(0))
    kept = {group.name: size - int(candidate.sum())}
    return GroupReport(
        name=group.name,
        size=size,
        readers=tuple(reader.module or reader.param for reader in group.readers),
        teacher_group=group.name if own else (partner.name if partner else None),
        teacher_size=len(strengths),
        observed=bool(readings),
        samples=rows,
        **norms,
        strength=powers,
        best=best,
        similarity=similarity,
        teacher_strength=strengths,
        teacher_best=teacher_best,
        r2=r2,
        dead=dead,
        weak=weak,
        redundant=redundant,
        aligned=(best >= 0) & (similarity >= thresholds.aligned),
        free=free_nodes(model, group, statistics.sites, found),
        candidate=candidate,
        teacher_aligned=int((teacher_best >= thresholds.aligned).sum()),
        params_saved=graph.params() - graph.params(kept),
        macs_saved=graph.macs() - graph.macs(kept),
    )


def _sensitivity(readings: tuple[Reading, ...], beta: Mapping[str, np.ndarray], size: int) -> np.ndarray:
    total = np.zeros(size)
    for reading in readings:
        if reading.site in beta:
            total += beta[reading.site][reading.features].sum(1)
    return total


def _moments(name: str, readings: tuple[Reading, ...], statistics: Statistics, own: bool) -> Moments | None:
    if own:
        if not readings:
            return None
        return own_moments(statistics.observed.covariances[readings[-1].site], readings[-1].features)
    return statistics.observed.pairs.get(name)


def _matches(
    metric: MomentMetric, moments: Moments | None, size: int, own: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best partner of each student node, its similarity, and the best similarity of each teacher node."""
    if moments is None:
        return np.full(size, -1), np.zeros(size), np.zeros(size if own else 0)
    table = metric.from_moments(moments).double().cpu().numpy()
    table = np.nan_to_num(table, copy=True)
    if own:
        if size == 1:
            return np.full(1, -1), np.zeros(1), np.zeros(1)
        np.fill_diagonal(table, -np.inf)
    best = table.argmax(1)
    return best, table.max(1), table.max(0)
