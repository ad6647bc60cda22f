"""One pass over the data drives student and teacher together and keeps moments only."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.alignment.covariance import Covariance, RunningCovariance
from tsdistill.alignment.hooks import Hooks, Look
from tsdistill.alignment.moments import Moments
from tsdistill.alignment.pairing import Pairing
from tsdistill.alignment.running import at_rest, count, first_sample, forward, placement, to_model
from tsdistill.alignment.sites import Positions, Site, Sites
from tsdistill.alignment.sites import rows as site_rows
from tsdistill.errors import TsdistillError


@dataclass(frozen=True, eq=False)
class Observation:
    """What one pass over the data has left.

    Attributes:
        samples: number of samples seen.
        covariances: per site key of the student; sites that never ran are missing.
        pairs: per student group with a matched teacher group, the moments of the two.
    """

    samples: int
    covariances: Mapping[str, Covariance]
    pairs: Mapping[str, Moments] = field(default_factory=dict)


def observe(
    model: nn.Module,
    sites: Sites,
    batches: Iterable[tuple[Any, Any]],
    *,
    teacher: nn.Module | None = None,
    teacher_sites: Sites | None = None,
    pairs: Mapping[str, str] | None = None,
    keys: Collection[str] | None = None,
    positions: int | str | None = "auto",
    seed: int = 0,
) -> Observation:
    """Drive ``model`` (and ``teacher``) over ``batches`` and collect moments.

    Args:
        model: the student.
        sites: its sites.
        batches: yields ``(x, y)``; ``y`` is not looked at.
        teacher: second model, run on the same batches first.
        teacher_sites: its sites.
        pairs: student group name -> teacher group name, read at their primary readings.
        keys: site keys whose covariance is wanted; all by default.
        positions: positions looked at in each sample of a feature map (a seeded random subset for each batch,
            the same for both models); ``"auto"`` goes by the layer's width, ``None`` takes all.
        seed: of the subsets.

    Raises:
        TsdistillError: no data, activations that are not finite (names the layer), a forward that fails, or
            paired groups whose resolutions cannot be brought together.
    """
    drawn = Positions(seed, positions, getattr(batches, "samples", None))
    wanted = [site for key, site in sites.sites.items() if keys is None or key in keys]
    watch = _Watch(model, wanted, drawn)
    pairing = None
    if teacher is not None and teacher_sites is not None and pairs:
        pairing = Pairing(model, sites, teacher, teacher_sites, pairs, drawn)
    role = "model" if teacher is None else "student"
    samples = 0
    with ExitStack() as stack:
        for each in {id(m): m for m in (model, teacher) if m is not None}.values():
            stack.enter_context(at_rest(each))
        stack.enter_context(torch.no_grad())
        for index, (x, _) in enumerate(batches):
            drawn.next_batch()
            watch.batch = index
            mine = to_model(x, *placement(model))
            if teacher is not None and pairing is not None:
                if index == 0:
                    with pairing.measuring:
                        forward(model, first_sample(mine), role)
                with pairing.teacher():
                    forward(teacher, to_model(x, *placement(teacher)), "teacher")
            with watch, pairing.student() if pairing else nullcontext():
                forward(model, mine, role)
            samples += count(x)
    if samples == 0:
        raise TsdistillError("the data yields no samples; check the data specification and --samples")
    return Observation(samples, watch.finish(), pairing.finish() if pairing else {})


class _Watch:
    """Accumulates covariances; sites that receive the very same tensor share one."""

    def __init__(self, model: nn.Module, sites: list[Site], positions: Positions) -> None:
        self.batch = 0
        self._sites = {site.key: site for site in sites}
        self._positions = positions
        self._running = {key: RunningCovariance() for key in self._sites}
        self._owner: dict[str, str] = {}
        self._seen: dict[int, tuple[weakref.ref[Tensor], int, str]] = {}
        hooks: dict[str, list[Look]] = {}
        for site in sites:
            hooks.setdefault(site.module, []).append(self._call(site))
        self._hooks = Hooks(model, hooks)

    def __enter__(self) -> None:
        self._seen.clear()
        self._hooks.__enter__()

    def __exit__(self, *_: object) -> None:
        self._hooks.__exit__()

    def _call(self, site: Site) -> Callable[[Tensor], None]:
        def call(x: Tensor) -> None:
            owner = self._owner_of(site, x)
            if owner != site.key:
                return
            samples, _ = site_rows(x, site, self._positions)
            if not self._running[site.key].update(samples):
                raise TsdistillError(
                    f"activations that enter layer {site.module!r} are not finite (NaN or infinity) in batch "
                    f"{self.batch}; check the weights before it and the data"
                )

        return call

    def _owner_of(self, site: Site, x: Tensor) -> str:
        """The site that keeps the statistics of ``x``, settled on the first batch."""
        if self.batch == 0:
            seen = self._seen.get(id(x))
            if seen is not None and seen[0]() is x and seen[1] == x._version and site.key not in self._owner:
                other = self._sites[seen[2]]
                if site.layout is None and other.layout is None and site.channel_dim == other.channel_dim:
                    self._owner[site.key] = other.key
            self._owner.setdefault(site.key, site.key)
            if self._owner[site.key] == site.key:
                self._seen[id(x)] = (weakref.ref(x), x._version, site.key)
        return self._owner.get(site.key, site.key)

    def finish(self) -> dict[str, Covariance]:
        done = {key: running.finish() for key, running in self._running.items() if running.rows}
        return {
            key: done[self._owner.get(key, key)] for key in self._sites if self._owner.get(key, key) in done
        }
