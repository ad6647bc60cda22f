"""From what a layer received to blocks of samples ``[N, C, P]``: which positions, which features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsdistill.runtime.seeds import mixed_seed

ROWS = 16384
"""Rows (samples times positions) that the moments of a pair of groups are estimated from at least: a
correlation then has a standard error below 0.01."""

_FEWEST = 16
"""Positions per sample that are taken at least."""

_ROWS_PER_FEATURE = 16
"""Rows per feature for a covariance: with 16 the eigenvalues are within about a half of the true ones."""

_UNKNOWN = 512
"""Samples that are assumed where a stream does not say its length."""


def channels_first(x: Tensor, channel_dim: int) -> Tensor:
    """``x`` as ``[N, C, positions...]``; a vector counts as one sample."""
    if x.ndim == 1:
        return x[None]
    return x.movedim(channel_dim, 1)


def flat(channels: Tensor) -> Tensor:
    """``[N, C, positions...]`` as ``[N, C, P]``, a view where that is possible."""
    if channels.ndim == 2:
        return channels[:, :, None]
    return channels if channels.ndim == 3 else channels.flatten(2)


def widen(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 when it already is."""
    return x if x.dtype == torch.float64 else x.float()


def spread(block: Tensor, coords: np.ndarray) -> Tensor:
    """``[N, C, P]`` to ``[N, nodes, m·P]``: the m channels of each node, ``coords [nodes, m]``, are further
    positions."""
    nodes, m = coords.shape
    if m == 1 and nodes == block.shape[1] and np.array_equal(coords[:, 0], np.arange(nodes)):
        return block
    index = torch.as_tensor(coords.reshape(-1), device=block.device)
    gathered = block.index_select(1, index)
    return gathered if m == 1 else gathered.reshape(block.shape[0], nodes, -1)


def token_mask(x: Any) -> Tensor | None:
    """Which positions of a batch of text hold tokens: bool ``[samples, positions]``; ``None`` where all do,
    of anything but text, and where a decoder has as many positions, which cannot be told apart.

    Args:
        x: what the model is given; an ``attention_mask`` is 0 at padding.
    """
    mask = x.get("attention_mask") if isinstance(x, Mapping) else None
    if not isinstance(mask, Tensor) or mask.ndim != 2 or bool((mask != 0).all()):
        return None
    decoded = x.get("decoder_input_ids")
    if isinstance(decoded, Tensor) and decoded.shape == mask.shape:
        return None
    return mask != 0


class PositionSampler:
    """Which positions of a map are looked at: in each sample one random position of every equal stretch.

    Stratified, and drawn anew for every sample, of text among the positions that hold tokens. The same for
    every layer and model that have as many positions; they depend on the seed, the batch and these numbers
    only, so they are the same in every process.

    Args:
        seed: of the draws.
        limit: positions in each sample; ``None`` takes all, ``"auto"`` as many as the question needs.
        samples: how many samples will come, if that is known.
    """

    def __init__(self, seed: int, limit: int | str | None = "auto", samples: int | None = None) -> None:
        self._seed = seed
        self._limit = limit
        self._samples = samples
        self._batch = 0
        self._mask: Tensor | None = None
        self._drawn: dict[tuple[int, int, int], Tensor] = {}

    def begin(self, batch: int, mask: Tensor | None = None) -> None:
        """Go on to the batch of that number.

        Args:
            batch: its number.
            mask: of its positions (see `token_mask`).
        """
        self._batch, self._mask = batch, mask
        self._drawn.clear()

    def for_pairs(self, width: int, total: int) -> int:
        """How many of ``total`` positions the correlations of two groups of at most ``width`` nodes need.

        As many as make 16,384 rows of all samples (and 16 a node), with 512 samples assumed when nobody
        knows. The standard error against the correlation over all positions of the same samples, about
        (1 − ρ²)/√rows, then stays under 0.01.
        """
        rows = max(ROWS, _ROWS_PER_FEATURE * width)
        return self._bounded(total, -(-rows // (self._samples or _UNKNOWN)))

    def for_covariances(self, width: int, total: int) -> int:
        """How many of ``total`` positions the covariance of ``width`` features needs.

        As many as a pair of groups needs, and at least 16. More do not help: what differs from image to image
        counts more than what differs within one (all positions of ResNet-20 give no better plans).
        """
        return max(self._bounded(total, _FEWEST), self.for_pairs(width, total))

    def _bounded(self, total: int, auto: int) -> int:
        if self._limit is None:
            return total
        return min(total, self._limit if isinstance(self._limit, int) else auto)

    def take(self, block: Tensor, wanted: int) -> Tensor:
        """``wanted`` of the positions of a block ``[N, C, P]``: ``[N, C, wanted]``, or the block itself.

        Where positions are padding, those of tokens are taken several times, as often as it needs.
        """
        samples, _, total = block.shape
        if wanted >= total and not self._masks(samples, total):
            return block
        index = self._subset(samples, total, wanted).to(block.device)
        each = torch.arange(samples, device=block.device)[:, None]
        return block.transpose(1, 2)[each, index].transpose(1, 2)

    def _masks(self, samples: int, total: int) -> bool:
        return self._mask is not None and self._mask.shape == (samples, total)

    def _subset(self, samples: int, total: int, wanted: int) -> Tensor:
        key = (samples, total, wanted)
        if key not in self._drawn:
            seed = mixed_seed(self._seed, self._batch, total, wanted)
            shifts = torch.rand(samples, wanted, generator=torch.Generator().manual_seed(seed))
            mask = self._mask.cpu() if self._mask is not None and self._masks(samples, total) else None
            tokens = torch.tensor(total) if mask is None else mask.sum(1, keepdim=True).clamp_min(1)
            places = (torch.arange(wanted) + shifts) * (tokens / wanted)
            drawn = places.long().minimum(tokens - 1)
            if mask is not None:
                drawn = mask.int().argsort(dim=1, descending=True, stable=True).gather(1, drawn)
            self._drawn[key] = drawn
        return self._drawn[key]
