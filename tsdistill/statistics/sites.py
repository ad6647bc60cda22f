"""Where statistics live: the first input of every layer that reads a group."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from tsdistill.models.layers.layer_kind import input_width
from tsdistill.tracing.graph import Group, NodeGraph, Reader

WIDEST = 4096
"""Channels beyond which a flattened map takes the position-shared form: a covariance of float64 has 128 MiB
at this width."""


@dataclass(frozen=True, eq=False)
class ReaderInput:
    """The first input of one reading layer, and how its channels become features.

    Attributes:
        key: unique name.
        module: dotted name of the layer.
        channel_dim: dimension of the input along which the channels lie.
        width: number of features F.
        layout: ``None`` when the features are the channels themselves; otherwise int64 ``[F, m]``: feature k
            is the set of m channels ``layout[k]``, and those m values count as m samples (a flattened map).
    """

    key: str
    module: str
    channel_dim: int
    width: int
    layout: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class GroupSite:
    """One group read at one site: node k is the set of features ``features[k]`` (int64 ``[nodes, m]``)."""

    group: str
    site: str
    reader: Reader
    features: np.ndarray


@dataclass(frozen=True, eq=False)
class ModelSites:
    """All sites of a graph and, per group, its readings in forward order."""

    sites: Mapping[str, ReaderInput]
    readings: Mapping[str, tuple[GroupSite, ...]]

    def primary(self, group: str) -> GroupSite | None:
        """The last reading of a group in forward order, which gives its activation; ``None`` without one."""
        readings = self.readings.get(group, ())
        return readings[-1] if readings else None

    def at(self, site: str) -> list[GroupSite]:
        """Every reading at one site."""
        return [
            reading for readings in self.readings.values() for reading in readings if reading.site == site
        ]


def find_sites(model: nn.Module, graph: NodeGraph, groups: Collection[str] | None = None) -> ModelSites:
    """The sites of ``graph`` (all groups, or those named): one per layer that can be hooked.

    An input of more than 4096 channels in which every node has several of them (a feature map flattened in
    front of a linear layer) gets the position-shared form: one feature a node, its channels as samples.
    """
    modules = dict(model.named_modules())
    sites: dict[str, ReaderInput] = {}
    readings: dict[str, tuple[GroupSite, ...]] = {}
    for group in graph.groups:
        if groups is not None and group.name not in groups:
            continue
        inputs = []
        for reader in group.readers:
            module = modules.get(reader.module) if reader.module is not None else None
            width = input_width(module) if module is not None else None
            if width is None:
                continue
            site, features = _site(group, reader, width)
            sites.setdefault(site.key, site)
            inputs.append(GroupSite(group.name, site.key, reader, features))
        readings[group.name] = tuple(inputs)
    return ModelSites(sites, readings)


def _site(group: Group, reader: Reader, width: int) -> tuple[ReaderInput, np.ndarray]:
    assert reader.module is not None
    if width > WIDEST and reader.coords.shape[1] > 1:
        key = f"{reader.module}@{group.name}"
        site = ReaderInput(key, reader.module, reader.channel_dim, group.size, reader.coords)
        return site, np.arange(group.size, dtype=np.int64)[:, None]
    return ReaderInput(reader.module, reader.module, reader.channel_dim, width), reader.coords
