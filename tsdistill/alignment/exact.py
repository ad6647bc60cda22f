"""What can leave without any change of the function: never read, constant, or a multiple of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from tsdistill.alignment.linear import standardise
from tsdistill.alignment.observing.covariance import Covariance
from tsdistill.alignment.observing.sites import Sites
from tsdistill.alignment.strength import column_norms
from tsdistill.tracing.graph import Group

_CORRELATED = 1 - 1e-5
_EQUAL = 1e-5


@dataclass(frozen=True, eq=False)
class Relations:
    """How the features of a site follow from one another.

    Attributes:
        constant: bool ``[F]``, features that do not vary.
        silent: bool ``[F]``, features that are always 0.
        leader: int ``[F]``: the first feature that this one is a multiple of (its own index for a leader).
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
    silent = constant & (covariance.mean == 0) & ~covariance.probe.any(0)
    return Relations(constant, silent, leader, factor)


def _ratio(values: np.ndarray, other: np.ndarray) -> float | None:
    """c with ``values = c · other`` to single precision, or ``None``."""
    square = float(other @ other)
    if square == 0:
        return None
    ratio = float(values @ other) / square
    fits = np.max(np.abs(values - ratio * other)) <= _EQUAL * np.max(np.abs(values))
    return ratio if fits and ratio != 0 else None


def pads_with_zeros(module: nn.Module) -> bool:
    """Whether a constant input channel is seen as something else at the border (so do unknown layers)."""
    if isinstance(module, nn.Linear):
        return False
    if getattr(module, "transposed", False) or getattr(module, "padding_mode", "zeros") != "zeros":
        return bool(getattr(module, "transposed", True))
    padding = getattr(module, "padding", None)
    plain = type(module).forward in (nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward)
    if plain and isinstance(padding, tuple):
        return any(padding)
    kernel = getattr(module, "kernel_size", None)
    return not (isinstance(kernel, tuple) and all(side == 1 for side in kernel))


def free_nodes(model: nn.Module, group: Group, sites: Sites, found: Mapping[str, Relations]) -> np.ndarray:
    """Nodes of a group that can all leave at once without any change of the function, bool ``[nodes]``.

    A node is free when every reader gives it zero weight or sees a constant there that it can do without,
    or when, for every reader, it is a multiple of one and the same node that stays. Of nodes that are
    multiples of each other the first stays.

    Args:
        model: the model.
        group: the group.
        sites: its sites.
        found: relations of every site that was observed.
    """
    readings = {id(reading.reader): reading for reading in sites.readings.get(group.name, ())}
    labels: list[np.ndarray] = []
    for reader in group.readers:
        unread = column_norms(model, reader) == 0
        reading = readings.get(id(reader))
        if reading is None or reading.site not in found:
            label = np.where(unread.all(1), -1, -2 - np.arange(group.size))
            labels.append(label[:, None])
            continue
        relation = found[reading.site]
        module = model.get_submodule(reader.module) if reader.module is not None else None
        gone = relation.silent
        if module is not None and getattr(module, "bias", None) is not None and not pads_with_zeros(module):
            gone = relation.constant
        nothing = unread if unread.shape == reading.features.shape else unread.all(1, keepdims=True)
        label = relation.leader[reading.features].copy()
        label[nothing | gone[reading.features]] = -1
        labels.append(label)
    table = np.concatenate(labels, axis=1) if labels else np.zeros((group.size, 0), dtype=np.int64)
    free = np.zeros(group.size, dtype=bool)
    seen: set[tuple[int, ...]] = set()
    for node, row in enumerate(table.tolist()):
        key = tuple(row)
        if not key:
            continue
        free[node] = key in seen or all(value == -1 for value in key)
        seen.add(key)
    return free
