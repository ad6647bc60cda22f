"""Streaming mean and covariance of the features of one site, and the signs of their values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tsdistill.statistics.centred_sums import RESOLUTION, CentredSums, PendingSamples

_PROBE = 256
"""Samples of the first batch that are kept unchanged, to verify that features are proportional."""


class RunningCovariance:
    """Takes in ``[samples, F]`` rows or ``[N, F, P]`` blocks; memory F² whatever comes."""

    def __init__(self) -> None:
        self.sums = CentredSums()
        self.probe: Tensor | None = None
        self.positive: Tensor | None = None
        self.lowest: Tensor | None = None
        self._pending = PendingSamples()

    @property
    def seen(self) -> bool:
        """Whether any sample has come."""
        return self.probe is not None

    def update(self, samples: Tensor) -> None:
        """Take in a batch in float32 or float64."""
        block = samples[:, :, None] if samples.ndim == 2 else samples
        if block.numel() == 0:
            return
        if self.probe is None:
            rows = block.transpose(1, 2).reshape(-1, block.shape[1])
            self.probe = rows[:: max(1, len(rows) // _PROBE)][:_PROBE].clone()
        for (ready,) in self._pending.add(block):
            self._take(ready)

    def _take(self, block: Tensor) -> None:
        self.sums.add(block)
        above = torch.gt(block, 0, out=torch.empty_like(block))  # sums of booleans are several times slower
        positive, lowest = above.sum((0, 2)).long(), block.amin((0, 2))
        if self.positive is None or self.lowest is None:
            self.positive, self.lowest = positive, lowest
        else:
            self.positive, self.lowest = self.positive + positive, torch.minimum(self.lowest, lowest)

    def settle(self) -> None:
        """Add the samples that were too few for a block so far."""
        for (ready,) in self._pending.rest():
            self._take(ready)

    @property
    def finite(self) -> bool:
        """Whether everything taken in so far is neither NaN nor infinite."""
        return not self.sums.n or bool(torch.isfinite(self.sums.squares[0]).all())

    def finish(self) -> Covariance:
        """The statistics of everything taken in (at least one sample); the running sums are given up."""
        self.settle()
        sums = self.sums
        assert sums.products is not None
        assert self.probe is not None
        assert self.positive is not None
        assert self.lowest is not None
        matrix = sums.products.div_(sums.n)
        matrix.diagonal().copy_(sums.squares[0] / sums.n)
        sums.products = None
        return Covariance(
            sums.n,
            sums.means[0].cpu().numpy(),
            matrix.cpu().numpy(),
            self.probe.double().cpu().numpy(),
            self.positive.double().cpu().numpy() / sums.n,
            self.lowest.double().cpu().numpy(),
        )


@dataclass(frozen=True, eq=False)
class Covariance:
    """What was seen at a site.

    Attributes:
        rows: number of samples (positions counted).
        mean: float64 ``[F]``.
        matrix: float64 ``[F, F]``, the centred covariance (divided by ``rows``).
        probe: float64 ``[at most 256, F]``: some samples as they were, to verify exact relations.
        on: float64 ``[F]``, share of the samples above 0.
        lowest: float64 ``[F]``, smallest value.
    """

    rows: int
    mean: np.ndarray
    matrix: np.ndarray
    probe: np.ndarray
    on: np.ndarray
    lowest: np.ndarray

    @cached_property
    def var(self) -> np.ndarray:
        """Variances ``[F]``; rounding below the resolution of float32 counts as zero."""
        diagonal = np.diag(self.matrix).copy()
        floor = RESOLUTION * (self.mean**2 + np.square(self.probe).max(0, initial=0.0))
        diagonal[diagonal <= floor] = 0.0
        return diagonal

    @cached_property
    def std(self) -> np.ndarray:
        """Standard deviations ``[F]``."""
        return np.sqrt(self.var)
