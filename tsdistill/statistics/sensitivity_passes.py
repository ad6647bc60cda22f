"""Backward passes until strength is known to a stated standard error."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

import numpy as np
from torch import nn

from tsdistill.runtime.forward import head
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import count
from tsdistill.runtime.progress import Progress, tell
from tsdistill.runtime.randomness import seeded
from tsdistill.statistics import distributed
from tsdistill.statistics.analysis_stages import STRENGTH
from tsdistill.statistics.sensitivity import SensitivityCollector, SiteSensitivity
from tsdistill.statistics.sites import ModelSites

TURNS = 4
"""At most so many turns of `samples` samples, so that a network whose samples differ much ends."""

FEW = 4
"""So many outputs are taken one by one without asking whether fewer random directions would do."""


@dataclass(frozen=True)
class StrengthEstimate:
    """How strength was measured, and how sure it is.

    Attributes:
        outputs: figures of the output for each sample; ``None`` where samples are not its rows.
        exact: one derivative was taken for each of them, so that nothing is left to chance but the samples.
        samples: samples that ran forward (again where the data were used several times).
        derivatives: derivatives of the output that were taken, one sample each, by backward passes.
        target: the standard error that was asked for, in parts of the group's largest strength; ``None`` for
            one turn whatever comes of it.
        error: the largest standard error of a node's strength over samples and random directions, in parts of
            its group's largest; 1 where there are too few samples to tell.
    """

    outputs: int | None
    exact: bool
    samples: int
    derivatives: int
    target: float | None
    error: float


class ResettableCollector(Protocol):
    """Looks at backward passes that run inside its block."""

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...

    def begin(self, first: int, count: int) -> None:
        """The samples ``first`` to ``first + count`` run now."""

    def reset(self) -> None:
        """Forget everything."""


Judge = Callable[[SiteSensitivity], float]
"""The largest standard error of a node's strength, in parts of its group's largest."""


def output_sensitivity(
    model: nn.Module,
    sites: ModelSites,
    batches: Iterable[tuple[Any, Any]],
    *,
    samples: int = 256,
    seed: int = 0,
    judge: Judge | None = None,
    target: float | None = None,
    collectors: Sequence[ResettableCollector] = (),
    progress: Progress | None = None,
    stage: str = STRENGTH,
) -> tuple[SiteSensitivity, StrengthEstimate]:
    """E[β_cc] of every feature of every site (see `SensitivityCollector`), as sure as it is asked for.

    A turn is a forward pass of ``samples`` samples and a backward pass from one random direction for each.
    Further turns, of the samples that follow (from the first on again at the end of the data), bring the
    standard error down to the target. Where the outputs of a sample are no more than the turns that this
    would take, or no more than four, one derivative is taken for each of them in one turn instead: exact for
    the samples seen.

    Args:
        model: the model; its parameters and their gradients stay as they are.
        sites: its sites.
        batches: yields ``(x, y)``.
        samples: samples of a turn.
        seed: of the directions.
        judge: says how sure what was seen is.
        target: the standard error that is asked for; ``None`` for one turn from random directions.
        collectors: look at the same backward passes.
        progress: is told how many samples are done.
        stage: what it is told that these passes are for.

    Raises:
        TsdistillError: the model has no floating output or it cannot be differentiated.
    """
    tell(progress, stage)
    passes = _Passes(SensitivityCollector(model, sites), batches, samples, seed, collectors, progress, stage)
    with evaluation_mode(model), seeded(seed):
        sensitivity = passes.turn(FEW if target is not None else 0)
        error = judge(sensitivity) if judge is not None else 1.0
        while target is not None and not passes.exact and error > target and passes.turns < TURNS:
            turns = ceil(passes.turns * min((error / target) ** 2, TURNS))
            if passes.outputs is not None and passes.outputs <= turns:
                passes.reset()
                sensitivity = passes.turn(turns)
            else:
                sensitivity = passes.turn()
            error = judge(sensitivity) if judge is not None else 1.0
    estimate = StrengthEstimate(
        passes.outputs, passes.exact, passes.samples, passes.derivatives, target, error
    )
    return sensitivity, estimate


def largest_error(errors: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """The largest standard error in parts of its group's largest strength.

    Args:
        errors: of every group the strengths and their standard errors, float64 ``[nodes]`` each.
    """
    parts = [float(error.max() / strength.max()) for strength, error in errors if strength.any()]
    return min(max(parts, default=0.0), 1.0)


class _Passes:
    """Turns over the data, each going on where the last one ended."""

    def __init__(
        self,
        sensitivity: SensitivityCollector,
        batches: Iterable[tuple[Any, Any]],
        samples: int,
        seed: int,
        collectors: Sequence[ResettableCollector],
        progress: Progress | None,
        stage: str,
    ) -> None:
        self._sensitivity, self._batches, self._size = sensitivity, batches, samples
        self._seed, self._collectors, self._progress = seed, collectors, progress
        self._stage = stage
        self._stream = _endless(self._batches, self._seed)
        self.turns = 0
        self._ran = self._derived = 0

    @property
    def outputs(self) -> int | None:
        """Figures of the output for each sample, as all processes have seen them."""
        seen = [figures for ran, figures in distributed.gather((self._ran, self._sensitivity.outputs)) if ran]
        known = [figures for figures in seen if figures is not None]
        return max(known) if seen and len(known) == len(seen) else None

    @property
    def exact(self) -> bool:
        """Whether every output was derived, in all processes."""
        return all(distributed.gather(self._sensitivity.exact))

    @property
    def samples(self) -> int:
        """Samples that ran forward, in all processes."""
        return distributed.total(self._ran)

    @property
    def derivatives(self) -> int:
        """Derivatives that were taken, one sample each, in all processes."""
        return distributed.total(self._derived)

    def reset(self) -> None:
        """Forget what was seen, but not what it cost; go on from the start of the data."""
        self._stream = _endless(self._batches, self._seed)
        self._sensitivity.reset()
        for collector in self._collectors:
            collector.reset()

    def turn(self, most: int = 0) -> SiteSensitivity:
        """One turn more, outputs of at most ``most`` figures derived one by one; what was seen so far."""
        taken = 0
        for part in self._stream:
            if part is None:
                if taken:
                    break
                continue
            index, first, x, seed = part
            x = head(x, self._size - taken)
            number = count(x)
            taken += number
            if index % distributed.size() == distributed.rank():
                with ExitStack() as stack:
                    for collector in self._collectors:
                        collector.begin(first, number)
                        stack.enter_context(collector)
                    self._derived += number * self._sensitivity.run(x, first, seed, most=most)
                self._ran += number
            done = self.turns * self._size
            tell(self._progress, self._stage, done + taken, done + self._expected)
            if taken >= self._size:
                break
        self.turns += 1
        return self._sensitivity.finish()

    @property
    def _expected(self) -> int:
        return min(self._size, getattr(self._batches, "samples", None) or self._size)


def _endless(batches: Iterable[tuple[Any, Any]], seed: int) -> Iterator[tuple[int, int, Any, int] | None]:
    """The batches with their numbers, those of their first samples, and seeds; ``None`` after the last of
    them, and on from the first, unless there is none."""
    for again in itertools.count():
        first = 0
        for index, (x, _) in enumerate(batches):
            place = (seed, index, again) if again else (seed, index)
            yield index, first, x, hash(place) % 2**63
            first += count(x)
        if not first:
            return
        yield None
