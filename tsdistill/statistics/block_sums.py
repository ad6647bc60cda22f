"""Sums over samples, kept apart in a few blocks of samples, so that a mean comes with its standard error."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tsdistill.statistics import distributed
from tsdistill.statistics.centred_sums import accumulator_device
from tsdistill.statistics.sample_blocks import widen

BLOCKS = 32
"""Blocks of samples. A standard error from B block means is itself off by about 1 / sqrt(2 (B - 1)), 13 %
here; memory grows with B."""


class BlockSums:
    """Per key the sums of non-negative figures ``[samples, C]``, sample i in block i mod ``BLOCKS``.

    One batch runs after the other: `begin` says which samples the figures that are added next belong to.

    Attributes:
        samples: int64 ``[BLOCKS]``, samples of this process by block; one that runs twice counts twice.
    """

    def __init__(self) -> None:
        self.samples = np.zeros(BLOCKS, dtype=np.int64)
        self._sums: dict[str, Tensor] = {}
        self._first = self._count = 0

    def begin(self, first: int, count: int) -> None:
        """The samples ``first`` to ``first + count`` of the data run now."""
        self._first, self._count = first, count
        np.add.at(self.samples, (first + np.arange(count)) % BLOCKS, 1)

    def add(self, key: str, values: Tensor) -> None:
        """Add figures ``[N, C]`` of the samples that run.

        N may be a multiple of their number, where a layer sees parts of every sample (windows of a map) one
        by one: parts of a sample are adjacent rows.
        """
        values = widen(values).detach()
        values = values.to(accumulator_device(values.device)).double()
        number = len(values)
        sample = self._first + torch.arange(number, device=values.device) * self._count // max(number, 1)
        if key not in self._sums:
            shape = (BLOCKS, values.shape[1])
            self._sums[key] = torch.zeros(shape, dtype=torch.float64, device=values.device)
        self._sums[key].index_add_(0, sample % BLOCKS, values)

    def finish(self) -> BlockMeans:
        """The means, of all processes together; the sums stay."""
        samples = np.sum(distributed.gather(self.samples), axis=0)
        sums = distributed.sum_all_over_processes(self._sums)
        counts = np.maximum(samples, 1)[:, None]
        return BlockMeans(samples, {key: each.cpu().numpy() / counts for key, each in sums.items()})


class BlockMeans:
    """Means by block of samples.

    Attributes:
        samples: int64 ``[BLOCKS]``, samples by block.
        means: key -> float64 ``[BLOCKS, C]``; zeros in a block without samples.
    """

    def __init__(self, samples: np.ndarray, means: dict[str, np.ndarray]) -> None:
        self.samples = samples
        self.means = means

    def __contains__(self, key: str) -> bool:
        return key in self.means

    def mean(self, by_block: np.ndarray) -> np.ndarray:
        """The mean over all samples of figures by block ``[BLOCKS, ...]``."""
        mean: np.ndarray = np.tensordot(self._weights(), by_block, 1)
        return mean

    def error(self, by_block: np.ndarray) -> np.ndarray:
        """The standard error of that mean, which infers from how the blocks differ.

        sqrt(B / (B - 1) Σ_b w_b² (m_b - m)²) over the B blocks that have samples, w_b the share of the
        samples that are in block b. Infinite with a single block, which says nothing of its own error.
        """
        weights = self._weights()
        number = np.count_nonzero(weights)
        if number < 2:
            return np.full(by_block.shape[1:], np.inf)
        apart = np.square(by_block - self.mean(by_block))
        error: np.ndarray = np.sqrt(number / (number - 1) * np.tensordot(weights**2, apart, 1))
        return error

    def _weights(self) -> np.ndarray:
        weights: np.ndarray = self.samples / max(int(self.samples.sum()), 1)
        return weights
