"""Covariances of the student's sites, collected while it runs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from tsdistill.runtime.hooks import Clock, InputHooks, Look
from tsdistill.statistics import distributed
from tsdistill.statistics.covariance import Covariance, RunningCovariance
from tsdistill.statistics.sample_blocks import Positions, channels_first, flat, spread, widen
from tsdistill.statistics.sites import Site
from tsdistill.torch_private import version_of


class Watch:
    """Accumulates covariances; sites that receive the very same tensor share one.

    Args:
        model: the model.
        sites: whose covariances are wanted.
        positions: which positions are looked at.
        clock: counts the time under ``covariances``.
    """

    def __init__(self, model: nn.Module, sites: Sequence[Site], positions: Positions, clock: Clock) -> None:
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

    def _call(self, site: Site) -> Callable[[Tensor], None]:
        def call(x: Tensor) -> None:
            if self._owner_of(site, x) == site.key:
                block = flat(channels_first(x.detach(), site.channel_dim))
                wanted = self._positions.for_covariances(site.width, block.shape[2])
                block = self._positions.take(block, wanted)
                self._running[site.key].update(
                    widen(block if site.layout is None else spread(block, site.layout))
                )

        return call

    def _owner_of(self, site: Site, x: Tensor) -> str:
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
        owners = distributed.agreed(self._owner)
        done = {key: running.finish() for key, running in self._running.items() if running.seen}
        return {key: done[owners.get(key, key)] for key in self._sites if owners.get(key, key) in done}
