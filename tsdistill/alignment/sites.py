"""Where statistics live: the first input of every layer that reads a group."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.tracing.graph import Group, NodeGraph, Reader

WIDEST = 4096
_WORK = 2**22
_FEWEST = 16
_ROWS_PER_FEATURE = 16


@dataclass(frozen=True, eq=False)
class Site:
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
class Reading:
    """One group read at one site: node k is the set of features ``features[k]`` (int64 ``[nodes, m]``)."""

    group: str
    site: str
    reader: Reader
    features: np.ndarray


@dataclass(frozen=True, eq=False)
class Sites:
    """All sites of a graph and, per group, its readings in forward order."""

    sites: Mapping[str, Site]
    readings: Mapping[str, tuple[Reading, ...]]

    def primary(self, group: str) -> Reading | None:
        """The last reading of a group in forward order, which gives its activation; ``None`` without one."""
        readings = self.readings.get(group, ())
        return readings[-1] if readings else None

    def at(self, site: str) -> list[Reading]:
        """Every reading at one site."""
        return [
            reading for readings in self.readings.values() for reading in readings if reading.site == site
        ]


def input_width(module: nn.Module) -> int | None:
    """Number of input channels of a linear layer or convolution, ``None`` when the module does not say."""
    for name in ("in_features", "in_channels"):
        value = getattr(module, name, None)
        if isinstance(value, int):
            return value
    return None


def find_sites(model: nn.Module, graph: NodeGraph, groups: Collection[str] | None = None) -> Sites:
    """The sites of ``graph`` (all groups, or those named): one per layer that can be hooked.

    An input of more than 4096 channels in which every node has several of them (a feature map flattened in
    front of a linear layer) gets the position-shared form: one feature a node, its channels as samples.
    """
    modules = dict(model.named_modules())
    sites: dict[str, Site] = {}
    readings: dict[str, tuple[Reading, ...]] = {}
    for group in graph.groups:
        if groups is not None and group.name not in groups:
            continue
        found = []
        for reader in group.readers:
            module = modules.get(reader.module) if reader.module is not None else None
            width = input_width(module) if module is not None else None
            if width is None:
                continue
            site, features = _site(group, reader, width)
            sites.setdefault(site.key, site)
            found.append(Reading(group.name, site.key, reader, features))
        readings[group.name] = tuple(found)
    return Sites(sites, readings)


def _site(group: Group, reader: Reader, width: int) -> tuple[Site, np.ndarray]:
    assert reader.module is not None
    if width > WIDEST and reader.coords.shape[1] > 1:
        key = f"{reader.module}@{group.name}"
        site = Site(key, reader.module, reader.channel_dim, group.size, reader.coords)
        return site, np.arange(group.size, dtype=np.int64)[:, None]
    return Site(reader.module, reader.module, reader.channel_dim, width), reader.coords


def channels_first(x: Tensor, channel_dim: int) -> Tensor:
    """``x`` as ``[N, C, positions...]``; a vector counts as one sample."""
    if x.ndim == 1:
        return x[None]
    return x.movedim(channel_dim, 1)


def positions_wanted(width: int, samples: int | None) -> int:
    """Positions a sample that are looked at.

    As many as give 16 rows a feature over all samples, more while width² · positions stays under 2^22, at
    least 16.
    """
    rows_needed = _ROWS_PER_FEATURE * width
    return max(_FEWEST, _WORK // max(1, width) ** 2, -(-rows_needed // (samples or rows_needed)))


class Positions:
    """Seeded random subsets of positions, the same for every layer and model that have as many positions.

    A new batch draws new subsets (``next_batch``). ``limit=None`` takes all positions.
    """

    def __init__(self, seed: int, limit: int | str | None = "auto", samples: int | None = None) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._limit = limit
        self._samples = samples
        self._drawn: dict[int, Tensor] = {}

    def next_batch(self) -> None:
        """Forget the subsets drawn so far."""
        self._drawn.clear()

    def wanted(self, width: int, total: int) -> int:
        """How many of ``total`` positions are taken for ``width`` channels."""
        if self._limit is None:
            return total
        limit = self._limit if isinstance(self._limit, int) else positions_wanted(width, self._samples)
        return min(total, limit)

    def subset(self, total: int, wanted: int) -> Tensor | None:
        """Indices of ``wanted`` of ``total`` positions; ``None`` for all of them."""
        if wanted >= total:
            return None
        if total not in self._drawn:
            self._drawn[total] = torch.randperm(total, generator=self._generator)
        return self._drawn[total][:wanted]


def rows(x: Tensor, site: Site, positions: Positions) -> tuple[Tensor, float]:
    """Samples of a site's features from one input of its layer.

    Args:
        x: what the layer received.
        site: the site.
        positions: which positions are taken.

    Returns:
        ``[samples, F]`` in float32 (float64 stays), and how many positions each of those taken stands for.
    """
    channels = channels_first(x.detach(), site.channel_dim)
    channels = channels.flatten(2) if channels.ndim > 2 else channels[:, :, None]
    total = channels.shape[2]
    subset = positions.subset(total, positions.wanted(site.width, total))
    if subset is not None:
        channels = channels.index_select(2, subset.to(channels.device))
    share = total / max(1, channels.shape[2])
    samples = channels.transpose(1, 2).reshape(-1, channels.shape[1])
    if site.layout is not None:
        samples = spread(samples, site.layout)
    return widen(samples), share


def spread(samples: Tensor, layout: np.ndarray) -> Tensor:
    """``[S, C]`` to ``[S·m, F]``: the m channels of each feature become m samples."""
    nodes, m = layout.shape
    index = torch.as_tensor(layout.reshape(-1), device=samples.device)
    gathered = samples.index_select(1, index).reshape(-1, nodes, m)
    return gathered.transpose(1, 2).reshape(-1, nodes)


def widen(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 when it already is."""
    return x if x.dtype == torch.float64 else x.float()
