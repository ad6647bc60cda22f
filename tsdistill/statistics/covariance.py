"""Streaming mean and covariance of the features of one site, and the signs of their values."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.runtime.hooks import Clock, InputHooks, Look
from tsdistill.statistics import distributed
from tsdistill.statistics.centred_sums import RESOLUTION, CentredSums, PendingSamples
from tsdistill.statistics.sample_blocks import PositionSampler, channels_first, flat, spread, widen
from tsdistill.statistics.sites import ReaderInput
from tsdistill.torch_private import version_of

_PROBE = 256


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
        positive, lowest = (block > 0).float().sum((0, 2)).long(), block.amin((0, 2))
        if self.positive is None or self.lowest is None:
            self.positive, self.lowest = positive, lowest
        else:
            self.positive, self.lowest = self.positive + positive, torch.minimum(self.lowest, lowest)

    def settle(self) -> None:
        """Take in what has been waiting for company."""
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


class CovarianceCollector:
    """Accumulates covariances; sites that receive the very same tensor share one.

    Args:
        model: the model.
        sites: whose covariances are wanted.
        positions: which positions are looked at.
        clock: counts the time under ``covariances``.
    """

    def __init__(
        self, model: nn.Module, sites: Sequence[ReaderInput], positions: PositionSampler, clock: Clock
    ) -> None:
        self._sites = {site.key: site for site in sites}
        self._positions = positions
        self._running = {key: RunningCovariance() for key in self._sites}
        self._owner: dict[str, str] = {}
        self._settled = False
        self._seen: dict[int, tuple[weakref.ref[Tensor], int, str]] = {}
        hooks: dict[str, list[Look]] = {}
        for site in sites:
            hooks.setdefault(site.module, []).append(self._call(site))
        self._hooks = InputHooks(model, hooks, clock, "covariances")

    def __enter__(self) -> None:
        self._hooks.__enter__()

    def __exit__(self, *_: object) -> None:
        self._hooks.__exit__()
        self._seen.clear()
        self._settled = True

    def _call(self, site: ReaderInput) -> Callable[[Tensor], None]:
        def call(x: Tensor) -> None:
            if self._owner_of(site, x) == site.key:
                block = flat(channels_first(x.detach(), site.channel_dim))
                wanted = self._positions.for_covariances(site.width, block.shape[2])
                block = self._positions.take(block, wanted)
                self._running[site.key].update(
                    widen(block if site.layout is None else spread(block, site.layout))
                )

        return call

    def _owner_of(self, site: ReaderInput, x: Tensor) -> str:
        """The site that keeps the statistics of ``x``, settled on the first batch."""
        if not self._settled:
            seen = self._seen.get(id(x))
            same = seen is not None and seen[0]() is x and seen[1] == version_of(x)
            if seen is not None and same and site.key not in self._owner:
                other = self._sites[seen[2]]
                if site.layout is None and other.layout is None and site.channel_dim == other.channel_dim:
                    self._owner[site.key] = other.key
            self._owner.setdefault(site.key, site.key)
            if self._owner[site.key] == site.key:
                self._seen[id(x)] = (weakref.ref(x), version_of(x), site.key)
        return self._owner.get(site.key, site.key)

    def broken(self) -> str | None:
        """The first layer that has received NaN or infinity."""
        for key, running in self._running.items():
            running.settle()
            if running.seen and not running.finite:
                return self._sites[key].module
        return None

    def finish(self) -> dict[str, Covariance]:
        """The covariances of all sites that ran, by key; those of all processes together."""
        distributed.combine_covariances(self._running)
        owners = distributed.from_first_process(self._owner)
        done = {key: running.finish() for key, running in self._running.items() if running.seen}
        return {key: done[owners.get(key, key)] for key in self._sites if owners.get(key, key) in done}
