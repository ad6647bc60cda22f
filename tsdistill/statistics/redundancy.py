"""What can leave without any change of the function: never read, constant, or a multiple of another."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from torch import nn

from tsdistill.models.layers.effective_weights import effective_weight
from tsdistill.statistics.covariance import Covariance
from tsdistill.statistics.linear_prediction import standardise
from tsdistill.statistics.linear_readers import batchnorm_after, capacities
from tsdistill.statistics.sensitivity import column_norms
from tsdistill.statistics.sites import ModelSites
from tsdistill.tracing.graph import Group, NodeGraph

_CORRELATED = 1 - 1e-5
"""Absolute correlation above which two features are tested for being proportional."""

_EQUAL = 1e-5
"""Relative deviation up to which values count as equal: about a hundred steps of float32."""


@dataclass(frozen=True, eq=False)
class Relations:
    """How the features of a site follow from one another.

    Attributes:
        constant: bool ``[F]``, features that do not vary.
        silent: bool ``[F]``, features that are always 0.
        leader: int ``[F]``: the first feature that this one is a multiple of (its own index for a leader).
            Constants other than 0 are multiples of each other.
        factor: float64 ``[F]``: ``h_k = factor[k] · h_leader[k]``.
    """

    constant: np.ndarray
    silent: np.ndarray
    leader: np.ndarray
    factor: np.ndarray


def relations(covariance: Covariance) -> Relations:
    """Find constant and proportional features; proportions are verified on samples kept as they were."""
    width = len(covariance.mean)
    constant = covariance.var == 0
    leader = np.arange(width)
    factor = np.ones(width)
    near = np.abs(standardise(covariance.matrix, covariance.std)) > _CORRELATED
    np.fill_diagonal(near, False)
    probe = covariance.probe
    for feature in np.flatnonzero(near.any(1)):
        for other in np.flatnonzero(near[feature, :feature]):
            if leader[other] != other:
                continue
            ratio = _ratio(probe[:, feature], probe[:, other])
            means = abs(covariance.mean[feature] - (ratio or 0.0) * covariance.mean[other])
            if ratio is not None and means <= 1e-4 * covariance.std[feature] + _EQUAL * abs(
                covariance.mean[feature]
            ):
                leader[feature], factor[feature] = other, ratio
                break
    silent = constant & (covariance.mean == 0) & ~probe.any(0)
    steady = np.flatnonzero(constant & (covariance.mean != 0))
    leader[steady] = steady[:1]
    factor[steady] = covariance.mean[steady] / covariance.mean[steady[:1]]
    return Relations(constant, silent, leader, factor)


def _ratio(values: np.ndarray, other: np.ndarray) -> float | None:
    """c with ``values = c · other`` to single precision, or ``None``."""
    square = float(other @ other)
    if square == 0:
        return None
    ratio = float(values @ other) / square
    fits = np.max(np.abs(values - ratio * other)) <= _EQUAL * np.max(np.abs(values))
    return ratio if fits and ratio != 0 else None


@dataclass(frozen=True)
class Compensation:
    """How a reading layer can compensate without any change of the function.

    Attributes:
        multiples: weights of one node can go to another that it is a multiple of.
        constants: a constant can go into its bias, or the running mean of the batch norm behind it.
    """

    multiples: bool
    constants: bool


def compensations(
    model: nn.Module, sites: ModelSites, covariances: Mapping[str, Covariance], example: Any
) -> dict[str, Compensation]:
    """How the reading layer of every observed site can compensate for removed nodes.

    Args:
        model: the model.
        sites: its sites.
        covariances: what was observed, by site.
        example: an input of batch 1.
    """
    modules = {key: model.get_submodule(site.module) for key, site in sites.sites.items()}
    bare = {
        sites.sites[key].module for key, module in modules.items() if effective_weight(module, "bias") is None
    }
    norms = batchnorm_after(model, bare, example) if bare else {}
    readers = {reading.site: reading.reader for readings in sites.readings.values() for reading in readings}
    able = capacities(model, readers, readers.keys() & covariances.keys(), example)
    result = {}
    for key, each in able.items():
        module = sites.sites[key].module
        place = module not in bare or module in norms
        result[key] = Compensation(each.channels, each.constants and place)
    return result


def spanned_by_norms(graph: NodeGraph) -> set[str]:
    """Names of the groups over whose nodes a norm or another statistic is taken: there every node counts."""
    if graph.record is None:
        return set()
    owner = np.repeat(np.arange(len(graph.groups)), [group.size for group in graph.groups])
    met = set[int]()
    for step in chain.from_iterable(trace.steps for trace in graph.record.trace.every):
        for _, _, labels in step.spans:
            nodes = graph.record.node_of[labels]
            met.update(np.unique(owner[nodes[nodes >= 0]]).tolist())
    return {graph.groups[index].name for index in met}


def lossless_nodes(
    model: nn.Module,
    group: Group,
    sites: ModelSites,
    relations_at: Mapping[str, Relations],
    compensation: Mapping[str, Compensation],
    spans: Collection[str] = (),
) -> np.ndarray:
    """Nodes of a group that can all leave at once without any change of the function, bool ``[nodes]``.

    A node is free when every reader gives it zero weight, sees 0 there, or sees a constant that it has a
    place for; or when, for every reader, it is a multiple of one and the same node that stays. Of nodes that
    are multiples of each other the first stays. No node is free where a norm runs over the group's nodes, or
    where a reader could not be observed or changes its weight before it reads (standardised weights).

    Args:
        model: the model.
        group: the group.
        sites: its sites.
        relations_at: relations of every site that was observed.
        compensation: how the reading layers can compensate, of the same sites.
        spans: groups over which a statistic is taken (see `spanned_by_norms`).
    """
    nothing = np.zeros(group.size, dtype=bool)
    readings = {id(reading.reader): reading for reading in sites.readings.get(group.name, ())}
    labels: list[np.ndarray] = []
    for reader in group.readers:
        reading = readings.get(id(reader))
        if reading is None or reading.site not in relations_at or not compensation[reading.site].multiples:
            return nothing
        unread = column_norms(model, reader) == 0
        relation, features = relations_at[reading.site], reading.features
        removable = relation.constant if compensation[reading.site].constants else relation.silent
        away = unread if unread.shape == features.shape else unread.all(1, keepdims=True)
        module = model.get_submodule(reader.module or "")
        label = relation.leader[features] + len(relation.leader) * _block(module, reader.coords, features)
        label[away | removable[features]] = -1
        labels.append(label)
    if not labels or group.name in spans:
        return nothing
    free = nothing.copy()
    seen: set[tuple[int, ...]] = set()
    for node, row in enumerate(np.concatenate(labels, axis=1).tolist()):
        key = tuple(row)
        free[node] = key in seen or all(value == -1 for value in key)
        seen.add(key)
    return free


def _block(module: nn.Module, coords: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The group of a convolution that reads each feature: multiples count within one only."""
    groups = int(getattr(module, "groups", 1))
    if groups == 1 or coords.shape != features.shape:
        return np.zeros_like(features)
    return coords // (int(module.in_channels) // groups)  # type: ignore[arg-type]


_RECTIFIERS = ("relu", "relu_", "hardtanh", "hardtanh_", "clamp_min", "clamp_min_", "clamp", "threshold")


_AVERAGES = ("mean", "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d")


def rectified(graph: NodeGraph) -> set[str]:
    """Names of the groups whose nodes have gates that their readers can see.

    A rectifier's operator has met the group's nodes; and the activation is not averaged over positions before
    its only reader sees it, where a node would be above 0 as soon as its gate is on somewhere.
    """
    if graph.record is None:
        return set()
    rectifies, averages = set[int](), set[int]()
    first = np.cumsum([0, *(group.size for group in graph.groups)])
    for step in chain.from_iterable(trace.steps for trace in graph.record.trace.every):
        name = step.op.split(".")[1] if step.op.count(".") else step.op
        if name in _RECTIFIERS or name in _AVERAGES:
            met = averages if name in _AVERAGES else rectifies
            for labels in step.touched:
                nodes = np.unique(graph.record.node_of[labels])
                met.update((np.searchsorted(first, nodes[nodes >= 0], side="right") - 1).tolist())
    return {
        group.name
        for index, group in enumerate(graph.groups)
        if index in rectifies and (index not in averages or len(group.readers) > 1)
    }
