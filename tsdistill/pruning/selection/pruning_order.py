"""What each node costs: the elimination order of every group and the marginal costs along it.

The cost of keeping only the nodes K is tr(E[β] Cov(h* | h_K)), summed over the layers that read the group:
the variance of the targets h* that the best linear prediction from what is kept leaves, in units of the
output. Without a teacher the targets are the nodes themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tsdistill.alignment.report import AlignmentReport, Statistics
from tsdistill.pruning.selection.obs import WIDE, NodePenalty, OBSState, Part, eliminate
from tsdistill.statistics.fan_out import FanOut
from tsdistill.statistics.linear_prediction import ridged_inverse, shrinkage, standardise
from tsdistill.statistics.moments import pooled
from tsdistill.statistics.sites import GroupSite
from tsdistill.tracing.graph import NodeGraph


@dataclass(frozen=True, eq=False)
class PruningOrder:
    """Nodes of one or several groups in the order in which they leave.

    Attributes:
        groups: names of the groups.
        owner: int ``[steps]``, index into ``groups`` of the node that leaves at each step.
        node: int ``[steps]``, that node.
        cost: float64 ``[steps]``, what its removal costs on top of what came before.
        free: bool ``[steps]``, whether the function stays exactly what it was.
    """

    groups: tuple[str, ...]
    owner: np.ndarray
    node: np.ndarray
    cost: np.ndarray
    free: np.ndarray


def score(
    report: AlignmentReport,
    floors: Mapping[str, int],
    savings: Mapping[str, float],
    *,
    keep_strong: bool = True,
) -> list[PruningOrder]:
    """Order the nodes of every observed group by what their loss costs.

    Groups that are read side by side by the same layer (concatenated) are ordered together, so that no two
    nodes of different groups leave because each could be predicted from the other.

    Args:
        report: the alignment report.
        floors: nodes that stay in each group.
        savings: what removing one node of each group saves, in any unit.
        keep_strong: weigh teacher nodes by strength; otherwise every teacher node counts the same.
    """
    statistics = report.statistics
    result = []
    for names in families(report):
        groups = [report.graph.by_name[name] for name in names]
        start = np.cumsum([0, *(group.size for group in groups)])
        owner = np.repeat(np.arange(len(groups)), [group.size for group in groups])
        free = np.concatenate([report.by_name[name].free for name in names])
        states: list[OBSState | NodePenalty]
        if len(names) == 1 and names[0] in statistics.observed.pairs:
            states = [teacher_state(report, names[0], keep_strong)]
        else:
            states = [*own_states(report.graph, statistics, names, start, keep_strong)]
        penalties = [
            constants(report, name, keep_strong) + multiplied(report, name, keep_strong) for name in names
        ]
        states.append(NodePenalty(np.concatenate(penalties)))
        order, cost = eliminate(
            states,
            owner,
            np.array([floors[name] for name in names]),
            np.array([max(savings[name], 1e-12) for name in names])[owner],
            free,
        )
        result.append(
            PruningOrder(tuple(names), owner[order], order - start[owner[order]], cost, free[order])
        )
    return result


def families(report: AlignmentReport) -> list[list[str]]:
    """Observed groups, those read at a common site together, those with a teacher's partner alone."""
    statistics = report.statistics
    home: dict[str, list[str]] = {}
    site_home: dict[str, list[str]] = {}
    for group in report.groups:
        if not group.observed:
            continue
        members = home.setdefault(group.name, [group.name])
        if group.name in statistics.observed.pairs:
            continue
        for reading in statistics.sites.readings[group.name]:
            other = site_home.setdefault(reading.site, members)
            if other is not members:
                other.extend(members)
                for name in members:
                    home[name] = other
                for site, family in site_home.items():
                    if family is members:
                        site_home[site] = other
                members = other
    distinct = {id(family): family for family in home.values()}
    return list(distinct.values())


def own_states(
    graph: NodeGraph,  # noqa: ARG001
    statistics: Statistics,
    names: Sequence[str],
    start: np.ndarray,
    keep_strong: bool,
) -> list[OBSState]:
    """One regression per site that reads any of the groups ``names``: its own features are the targets."""
    readers: dict[str, list[tuple[int, GroupSite]]] = {}
    for index, name in enumerate(names):
        for reading in statistics.sites.readings[name]:
            if reading.site in statistics.observed.covariances:
                readers.setdefault(reading.site, []).append((index, reading))
    result = []
    for site, readings in readers.items():
        if keep_strong and site in statistics.fan_outs:
            result.append(output_state(statistics.fan_outs[site], readings, start))
            continue
        covariance = statistics.observed.covariances[site]
        correlation = standardise(covariance.matrix, covariance.std)
        ridge = shrinkage(correlation, covariance.rows)
        precision = ridged_inverse(correlation, ridge)
        parts, start_here = [], 0
        for index, reading in readings:
            shape = reading.features.shape
            features = start_here + np.arange(reading.features.size).reshape(shape)
            parts.append(Part(start[index] + np.arange(shape[0]), features))
            start_here += reading.features.size
        local = np.concatenate([reading.features.reshape(-1) for _, reading in readings])
        if keep_strong:
            weight = (statistics.sensitivity[site] * covariance.var)[local]
        else:
            weight = np.concatenate(
                [
                    np.full(r.features.size, 1 / (r.features.shape[1] * _times_read(statistics, r.group)))
                    for _, r in readings
                ]
            )
        inner = precision[np.ix_(local, local)]
        result.append(OBSState(inner, own_gram(inner, ridge, weight), parts))
    return result


def output_state(fan_out: FanOut, readings: Sequence[tuple[int, GroupSite]], start: np.ndarray) -> OBSState:
    """The outputs y = W x of a reading layer predicted from what is left of x, weighed by E[β] of y.

    A node is all the entries of x in which the kernel meets it. The cost of a set R of nodes is what no
    re-fit of the kernel can compensate, tr(E[β] W_R Cov(x_R | x_K) W_Rᵀ), cross terms between nodes and
    between outputs included. Of wide kernels a node is its channel, and the same is taken over the taps as
    they are correlated (see `FanOut.gram`).
    """
    covariance = fan_out.covariance
    correlation = standardise(covariance.matrix, covariance.std)
    ridge = shrinkage(correlation, covariance.rows)
    precision = ridged_inverse(correlation, ridge)
    parts, picked, at = [], [], 0
    taps = fan_out.taps if fan_out.nearby is None else 1
    for index, reading in readings:
        entries = (reading.features[:, :, None] * taps + np.arange(taps)).reshape(len(reading.features), -1)
        parts.append(
            Part(start[index] + np.arange(len(entries)), at + np.arange(entries.size).reshape(entries.shape))
        )
        picked.append(entries.reshape(-1))
        at += entries.size
    local = np.concatenate(picked)
    kind = _kind(len(precision))
    precision = precision.astype(kind, copy=False)
    if fan_out.nearby is not None:
        map_: np.ndarray = np.multiply(precision, -ridge, dtype=kind)
        np.fill_diagonal(map_, map_.diagonal() + 1)
        map_ = (map_ * covariance.std[:, None].astype(kind)).take(local, 1)
        return OBSState(precision.take(local, 0).take(local, 1), fan_out.gram(map_), parts)
    scaled = (fan_out.weight * covariance.std).astype(kind, copy=False)
    map_ = scaled - kind(ridge) * (scaled @ precision)
    if not np.array_equal(local, np.arange(len(precision))):
        map_, precision = map_.take(local, 1), precision.take(local, 0).take(local, 1)
    return OBSState(precision, map_.T @ (fan_out.beta.astype(kind, copy=False) @ map_), parts)


def constants(report: AlignmentReport, name: str, keep_strong: bool) -> np.ndarray:
    """What constant nodes cost where the reading layer has no place for a constant, float64 ``[nodes]``.

    They have no variance for a regression to see, but a layer that pads with zeros sees them end at the
    border, and one without a bias cannot make up for them at all.
    """
    statistics = report.statistics
    total = np.zeros(report.graph.by_name[name].size)
    for reading in statistics.sites.readings[name]:
        covariance = statistics.observed.covariances.get(reading.site)
        if covariance is None or statistics.taking[reading.site].constants:
            continue
        weight = statistics.sensitivity[reading.site] * covariance.mean**2
        if not keep_strong:
            share = 1 / (reading.features.shape[1] * _times_read(statistics, name))
            weight = np.where(weight > 0, share, 0.0)
        total += np.where(covariance.var == 0, weight, 0.0)[reading.features].sum(1)
    return np.where(report.by_name[name].free, 0.0, total)


def multiplied(report: AlignmentReport, name: str, keep_strong: bool) -> np.ndarray:
    """What nodes cost through their products with one another, which no layer reads, float64 ``[nodes]``."""
    cost = report.statistics.products.get(name)
    if cost is None:
        return np.zeros(report.graph.by_name[name].size)
    return cost if keep_strong or not cost.any() else cost / cost.mean()


def own_gram(inner: np.ndarray, ridge: float, weight: np.ndarray) -> np.ndarray:
    """Q = P Cᵀ Ω C P when the targets are the features: C P = I − ridge · P."""
    kind = _kind(len(inner))
    map_: np.ndarray = np.multiply(inner, -ridge, dtype=kind)
    np.fill_diagonal(map_, map_.diagonal() + 1)
    return map_.T @ (weight.astype(kind)[:, None] * map_)


def _kind(size: int) -> type[np.float32] | type[np.float64]:
    """The precision in which a regression of so many features is kept."""
    return np.float32 if size > WIDE else np.float64


def _times_read(statistics: Statistics, group: str) -> int:
    readings = statistics.sites.readings[group]
    return max(1, sum(reading.site in statistics.observed.covariances for reading in readings))


def teacher_state(report: AlignmentReport, name: str, keep_strong: bool) -> OBSState:
    """A teacher group's nodes predicted from the student group's."""
    statistics = report.statistics
    primary = statistics.sites.primary(name)
    assert primary is not None
    covariance = statistics.observed.covariances[primary.site]
    moments = statistics.observed.pairs[name]
    matrix = pooled(covariance, primary.features)[1]
    std = np.sqrt(np.clip(np.diag(matrix), 0, None))
    correlation = standardise(matrix, std)
    ridge = shrinkage(correlation, covariance.rows * primary.features.shape[1])
    cross = moments.cov().numpy()
    scale = np.sqrt(np.outer(moments.var_s().numpy(), moments.var_t().numpy()))
    cross = np.divide(cross, scale, out=np.zeros_like(cross), where=scale > 0)
    strength = report.by_name[name].teacher_strength
    weight = strength**2 if keep_strong else np.ones(cross.shape[1])
    inner = ridged_inverse(correlation, ridge)
    map_ = cross.T @ inner
    size = len(inner)
    part = Part(np.arange(size), np.arange(size)[:, None])
    return OBSState(inner, map_.T @ (weight[:, None] * map_), [part])
