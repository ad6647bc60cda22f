"""A first look at every group of a model: its activations on a few samples, on a common coarse grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d

from tsdistill.errors import TsdistillError
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import InputHooks, Look
from tsdistill.runtime.nests import count
from tsdistill.statistics.common_grid import grid
from tsdistill.statistics.sample_blocks import channels_first, widen
from tsdistill.statistics.sites import GroupSite, ModelSites
from tsdistill.tracing.graph import Group, NodeGraph

_SIDE = 2
"""Side of the common grid that maps are pooled to, in positions: 2 by 2 keeps left and right, top and
bottom apart at four values per node."""


@dataclass(frozen=True, eq=False)
class TracedModel:
    """One model as matching sees it."""

    model: nn.Module
    graph: NodeGraph
    sites: ModelSites

    @property
    def observable(self) -> list[str]:
        """Names of the groups that have a layer whose input can be observed, in forward order of writing."""
        return [group.name for group in self.graph.groups if self.sites.primary(group.name) is not None]

    def channels_a_node(self, name: str) -> int:
        """How many coordinates that are written belong to each node of a group (more than 1 for heads)."""
        group = self.graph.by_name[name]
        return min((s.coords.shape[1] for s in group.slots if s.param in group.writers), default=1)


class CoarseActivations:
    """Activations of all groups of one model at their primary readings, batch after batch.

    Attributes:
        order: the groups seen, in the order in which their primary readings ran (where a layer runs several
            times in a forward: its last call).
        positions: per group seen how many positions a sample has (1: a vector).
    """

    def __init__(self, side: TracedModel, role: str) -> None:
        self.order: dict[str, int] = {}
        self.positions: dict[str, int] = {}
        self._side, self._role = side, role
        self._batches: dict[str, list[Tensor]] = {}
        self._now: dict[str, Tensor] = {}
        self._apart: set[str] = set()
        self._samples = 0
        hooks: dict[str, list[Look]] = {}
        for group in side.graph.groups:
            reading = side.sites.primary(group.name)
            if reading is not None and reading.reader.module is not None:
                hooks.setdefault(reading.reader.module, []).append(self._look(group, reading))
        self._hooks = InputHooks(side.model, hooks)
        self._calls = 0

    def collect(self, x: Any) -> None:
        """Drive the model over a batch.

        Raises:
            TsdistillError: the forward fails.
        """
        self._samples = count(x)
        self._now.clear()
        with self._hooks:
            forward(self._side.model, x, self._role)
        for name, features in self._now.items():
            self._batches.setdefault(name, []).append(features)

    def finish(self) -> Mapping[str, Tensor]:
        """Per group seen in every batch ``[samples, F]``, in ``order``; F holds the cells of the grid.

        Raises:
            TsdistillError: activations are not finite; names the layer.
        """
        whole = max((len(batches) for batches in self._batches.values()), default=0)
        kept = [name for name, batches in self._batches.items() if len(batches) == whole]
        kept = [name for name in sorted(kept, key=self.order.__getitem__) if name not in self._apart]
        features_of = {name: torch.cat(self._batches.pop(name)) for name in kept}
        if features_of:
            finite = torch.stack([features.isfinite().all() for features in features_of.values()]).tolist()
            for name, fine in zip(features_of, finite, strict=True):
                if not fine:
                    reading = self._side.sites.primary(name)
                    layer = reading.reader.module if reading is not None else name
                    raise TsdistillError(
                        f"activations that enter layer {layer!r} of the {self._role} are not finite (NaN or "
                        "infinity); check the weights before it and the data"
                    )
        return features_of

    def _look(self, group: Group, reading: GroupSite) -> Callable[[Tensor], None]:
        coords = torch.as_tensor(reading.reader.coords.reshape(-1))
        written, read = self._side.channels_a_node(group.name), reading.reader.coords.shape[1]
        repeats = read // written if read % written == 0 else 1

        def look(x: Tensor) -> None:
            self._calls += 1
            placed = with_positions(x.detach(), reading.reader.channel_dim, coords, repeats, self._samples)
            if placed is None:
                self._apart.add(group.name)
                return
            if not self._batches.get(group.name):
                self.order[group.name] = self._calls
                self.positions[group.name] = math.prod(placed.shape[2:])
            self._now[group.name] = on_grid(placed, self.positions[group.name] > 1)

        return look


def with_positions(x: Tensor, channel_dim: int, coords: Tensor, repeats: int, samples: int) -> Tensor | None:
    """What a layer received as ``[samples, channels, positions...]`` in float32 (float64 stays).

    Windows that stand in the batch dimension go back into positions, tokens in a square (behind up to five
    others: class and register tokens) become a map, and so does a flattened map.

    Args:
        x: the input.
        channel_dim: the dimension of the channels.
        coords: the channels that are wanted.
        repeats: how many of them in a row are positions of the same channel (a flattened map).
        samples: number of samples in the batch.

    Returns:
        ``None`` when the samples cannot be told apart.
    """
    x = channels_first(x, channel_dim)
    if x.ndim == 3 and x.shape[0] != samples == x.shape[2]:
        x = x.transpose(0, 2)
    if samples == 0 or x.shape[0] % samples:
        return None
    if len(coords) != x.shape[1] or not torch.equal(coords, torch.arange(x.shape[1])):
        x = x.index_select(1, coords.to(x.device))
    x = widen(x)
    tokens = channel_dim != 1 and x.ndim == 3
    if repeats > 1 and x.ndim == 2:
        x, tokens = x.unflatten(1, (-1, repeats)), True
    windows = x.shape[0] // samples
    if windows > 1:
        x, tokens = _joined(x.unflatten(0, (samples, windows))), True
    return _as_map(x) if tokens and x.ndim == 3 else x


def _joined(x: Tensor) -> Tensor:
    """``[N, windows, C, positions...]`` as a map where both are squares, else as ``[N, C, P]``."""
    x = x.flatten(3) if x.ndim > 3 else x[..., None]
    n, windows, channels, positions = x.shape
    outer, inner = math.isqrt(windows), math.isqrt(positions)
    if outer**2 == windows and inner**2 == positions and positions > 1:
        x = x.reshape(n, outer, outer, channels, inner, inner).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(n, channels, outer * inner, outer * inner)
    return x.transpose(1, 2).flatten(2)


def _as_map(x: Tensor) -> Tensor:
    """``[N, C, P]`` as ``[N, C, L, L]`` when P is L² tokens behind up to five others."""
    prefix, side = grid(x.shape[2]) or (0, 0)
    return x[:, :, prefix:].unflatten(2, (side, side)) if side else x


def on_grid(x: Tensor, placed: bool) -> Tensor:
    """``[N, C, positions...]`` as ``[N, C·4]``: means over the quarters of a map, over four stretches of a
    sequence; without positions (``placed`` false) as ``[N, C]``."""
    if not placed or x.ndim == 2:
        x = x if x.ndim == 2 else x.flatten(2).mean(2)
        return x.repeat_interleave(_SIDE**2, 1) if placed else x
    if x.ndim == 3:
        return adaptive_avg_pool1d(x, _SIDE**2).flatten(1)
    if x.ndim > 4:
        x = x.mean(tuple(range(2, x.ndim - 2)))
    return adaptive_avg_pool2d(x, _SIDE).flatten(1)
