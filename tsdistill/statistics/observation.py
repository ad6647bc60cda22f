"""One pass over the data drives student and teacher together and keeps moments only."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.options.option_fields import written
from tsdistill.runtime.finite import checked_forward
from tsdistill.runtime.forward import forward, head
from tsdistill.runtime.hooks import Clock, InputHooks, Look
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import count
from tsdistill.runtime.progress import Progress, tell
from tsdistill.runtime.seeds import seeded
from tsdistill.statistics import distributed
from tsdistill.statistics.analysis_stages import OBSERVE
from tsdistill.statistics.covariance import Covariance, RunningCovariance
from tsdistill.statistics.moments import Moments
from tsdistill.statistics.pairing import Listener, PairedMoments
from tsdistill.statistics.sample_blocks import (
    PositionSampler,
    channels_first,
    flat,
    spread,
    token_mask,
    widen,
)
from tsdistill.statistics.sensitivity_passes import SensitivityPasses
from tsdistill.statistics.sites import ModelSites, ReaderInput
from tsdistill.torch_private import version_of


@dataclass(frozen=True, eq=False)
class Observation:
    """What one pass over the data measured.

    Attributes:
        samples: number of samples seen, in all processes together.
        covariances: per site key of the student; sites that never ran are missing.
        pairs: per student group with a matched teacher group, the moments of the two.
        compared: per student group with a matched teacher group, how their positions were brought together.
        seconds: where the time of this process went: ``forward`` (both models), ``moments``, ``covariances``.
            On a GPU, whose work the host does not wait for, the split is rough.
    """

    samples: int
    covariances: Mapping[str, Covariance]
    pairs: Mapping[str, Moments] = field(default_factory=dict)
    compared: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ObservedTeacher:
    """A second model that is observed beside the first, group by group.

    Attributes:
        model: run on the same batches, before the student; the student itself to observe pairs of its own
            groups.
        sites: its sites.
        pairs: student group -> teacher group, read at their primary readings.
        full: keep the covariances of both sides of every pair too, for metrics that want them.
        listeners: by student group, who is handed the rows of the pair as they come.
        passes: what derives its outputs of the first samples in the same forward passes.
    """

    model: nn.Module
    sites: ModelSites
    pairs: Mapping[str, str]
    full: bool = False
    listeners: Mapping[str, Sequence[Listener]] = field(default_factory=dict)
    passes: SensitivityPasses | None = None


def observe(
    model: nn.Module,
    sites: ModelSites,
    batches: Iterable[tuple[Any, Any]],
    *,
    teacher: ObservedTeacher | None = None,
    keys: Collection[str] | None = None,
    positions: int | str | None = "auto",
    seed: int = 0,
    around: Callable[[int], AbstractContextManager[None]] | None = None,
    passes: SensitivityPasses | None = None,
    progress: Progress | None = None,
) -> Observation:
    """Drive ``model`` (and a teacher) over ``batches`` and collect moments.

    In a job of several processes (``torch.distributed``) every process takes its share of the batches and all
    of them return the same.

    Args:
        model: the student.
        sites: its sites.
        batches: yields ``(x, y)``; ``y`` is not looked at.
        teacher: a second model and which groups of both are paired.
        keys: site keys whose covariance is wanted; all by default.
        positions: positions looked at in each sample of a feature map (see `PositionSampler`).
        seed: of the positions.
        around: the forward of ``model`` on the batch of a number runs inside what this gives for the number.
        passes: what derives the outputs of the first samples in the same forward passes.
        progress: is called with the number of samples done.

    Raises:
        TsdistillError: no data, activations that are not finite (names the layer), a forward that fails, or
            paired groups that do not see the same samples.
    """
    clock = Clock()
    expected = getattr(batches, "samples", None)
    drawn = PositionSampler(seed, positions, expected)
    wanted = [site for key, site in sites.sites.items() if keys is None or key in keys]
    collector = CovarianceCollector(model, wanted, drawn, clock)
    paired = None
    if teacher is not None and teacher.pairs:
        paired = PairedMoments(
            model,
            sites,
            teacher.model,
            teacher.sites,
            teacher.pairs,
            drawn,
            full=teacher.full,
            listeners=teacher.listeners,
            clock=clock,
        )
    other = teacher if teacher is not None and teacher.model is not model else None
    role = "model" if other is None else "student"
    samples = 0
    tell(progress, OBSERVE)
    start = time.perf_counter()
    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(model, *([other.model] if other is not None else [])))
        stack.enter_context(torch.no_grad())
        stack.enter_context(seeded(seed))
        measured = False
        for index, first, (x, _) in distributed.shared_batches(batches):
            drawn.begin(index, token_mask(x))
            if paired is not None:
                if not measured:
                    _measure(paired, model, model if other is None else other.model, head(x, 1), role)
                    measured = True
                paired.begin(count(x))
                if other is not None:
                    _run(other.model, index, first, x, "teacher", other.passes, [paired.teacher()])
            contexts: list[AbstractContextManager[Any]] = [collector]
            if around is not None:
                contexts.append(around(index))
            if paired is not None:
                contexts.append(paired.student())
            _run(model, index, first, x, role, passes, contexts)
            samples += count(x)
            tell(progress, OBSERVE, first + count(x), expected)
    seconds = time.perf_counter() - start
    samples = distributed.total(samples)
    if samples == 0:
        raise TsdistillError(
            f"the data yields no samples; check the data specification and {written('samples')}"
        )
    broken = collector.broken()
    if broken is not None:
        raise TsdistillError(
            f"layer {broken!r} of the {role} receives activations that are not finite (NaN or infinity); "
            "check the weights up to there, the precision and the data"
        )
    covariances = collector.finish()
    moments = paired.finish() if paired is not None else {}
    spent = {"moments": clock.seconds["moments"], "covariances": clock.seconds["covariances"]}
    return Observation(
        samples,
        covariances,
        moments,
        paired.words if paired is not None else {},
        {"forward": seconds - sum(spent.values()), **spent},
    )


def _run(
    model: nn.Module,
    index: int,
    first: int,
    x: Any,
    role: str,
    passes: SensitivityPasses | None,
    contexts: Iterable[AbstractContextManager[Any]],
) -> None:
    """One forward pass inside ``contexts``, and the backward passes that ``passes`` makes of it."""
    with ExitStack() as observing:
        for context in contexts:
            observing.enter_context(context)
        if passes is None:
            checked_forward(model, x, role, f"in batch {index}")
        else:
            passes.observe(index, first, x, role, observing)


def _measure(paired: PairedMoments, student: nn.Module, teacher: nn.Module, x: Any, role: str) -> None:
    paired.measure(lambda: forward(student, x, role), lambda: forward(teacher, x, "teacher"))


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
