"""Backward passes until strength is known to a stated standard error."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import nn

from tsdistill.runtime.finite import checked_forward
from tsdistill.runtime.forward import head
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import count
from tsdistill.runtime.progress import Progress, tell
from tsdistill.runtime.seeds import mixed_seed, seeded
from tsdistill.statistics import distributed
from tsdistill.statistics.analysis_stages import STRENGTH
from tsdistill.statistics.sensitivity import SensitivityCollector, SiteSensitivity
from tsdistill.statistics.sites import ModelSites

TURNS = 4
"""At most so many turns of `samples` samples, so that a network whose samples differ much ends."""

FEW = 4
"""So many outputs are taken one by one without asking whether fewer random directions would do."""

ENOUGH = 64
"""Derivatives that are taken where data are few, from further directions for the same samples. One direction
for each of 64 samples leaves a strength off by about 1 / sqrt(2 · 64) = 9 % where it depends on one output,
less where on many. More directions for more samples are not worth their passes: which nodes a plan takes
comes out as well from one (ResNet-20 and a ViT, 256 images)."""


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


class GradientCollector(Protocol):
    """Looks at backward passes that run inside its block."""

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...

    def begin(self, first: int, count: int) -> None:
        """The samples ``first`` to ``first + count`` run now."""


Judge = Callable[[SiteSensitivity], float]
"""The largest standard error of a node's strength, in parts of its group's largest."""


def largest_error(errors: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """The largest standard error in parts of its group's largest strength.

    Args:
        errors: of every group the strengths and their standard errors, float64 ``[nodes]`` each.
    """
    parts = [float(error.max() / strength.max()) for strength, error in errors if strength.any()]
    return min(max(parts, default=0.0), 1.0)


class SensitivityPasses:
    """Turns of ``samples`` samples: a forward pass, and a backward pass from a random direction for each.

    The first turn can be part of a pass over the data that is made anyway (`observe`). Further turns, of the
    samples that follow, bring the standard error down to the target.
    Where no samples follow, the same ones are derived in other directions only where they are very few
    (`ENOUGH`). Where a sample has at most `FEW` outputs and there is a target, one derivative is taken for
    each of them: exact for the samples seen.

    Args:
        model: the model; its parameters and their gradients stay as they are.
        sites: its sites.
        batches: yields ``(x, y)``.
        samples: samples of a turn.
        seed: of the directions.
        target: the standard error that is asked for, in parts of a group's largest strength; ``None`` for one
            turn from random directions.
        collectors: look at the same backward passes.
        progress: is called with the number of samples done.
        stage: the name of the stage that it is called with.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: ModelSites,
        batches: Iterable[tuple[Any, Any]],
        *,
        samples: int = 256,
        seed: int = 0,
        target: float | None = None,
        collectors: Sequence[GradientCollector] = (),
        progress: Progress | None = None,
        stage: str = STRENGTH,
    ) -> None:
        self._model, self._batches, self._size, self._seed = model, batches, samples, seed
        self._sensitivity = SensitivityCollector(model, sites)
        self._target, self._most = target, FEW if target is not None else 0
        self._collectors, self._progress, self._stage = collectors, progress, stage
        self._stream = _endless(batches)
        self._begun = self._ended = False
        self._ran = self._derived = 0

    def observe(self, index: int, first: int, x: Any, role: str, observing: ExitStack) -> None:
        """Run a batch forward, and backward as far as it belongs to the first turn.

        Args:
            index: its number.
            first: the number of its first sample.
            x: the batch; all batches of this process come in order, from the first on.
            role: how messages call the model.
            observing: contexts that have been entered for the forward pass; they are left after it.
        """
        self._begun = True
        seed = mixed_seed(self._seed, index)
        if first + count(x) <= self._size:
            self._derive(first, x, seed, role, observing)
            return
        with observing:
            checked_forward(self._model, x, role, f"in batch {index}")
        if first < self._size:
            self._derive(first, head(x, self._size - first), seed, role)

    def finish(self, judge: Judge | None = None) -> tuple[SiteSensitivity, StrengthEstimate]:
        """The first turn, where it was not observed, and the further turns that the target takes.

        Args:
            judge: says how sure what was seen is.

        Returns:
            E[β_cc] of every feature, and how sure it is.

        Raises:
            TsdistillError: the model has no floating output or it cannot be differentiated.
        """
        self._begun = any(distributed.gather(self._begun))
        with evaluation_mode(self._model), seeded(self._seed):
            if not self._begun:
                self._turn()
            for turn in range(1, TURNS + 1):
                sensitivity = self._sensitivity.finish()
                error = judge(sensitivity) if judge is not None else 1.0
                exact = all(distributed.gather(self._sensitivity.exact))
                enough = self._target is None or error <= self._target or exact or turn == TURNS
                if enough or not self._turn(turn):
                    break
        samples, derivatives = distributed.total(self._ran), distributed.total(self._derived)
        estimate = StrengthEstimate(self._outputs(), exact, samples, derivatives, self._target, error)
        return sensitivity, estimate

    def _outputs(self) -> int | None:
        """Figures of the output for each sample, as all processes have seen them."""
        seen = [figures for ran, figures in distributed.gather((self._ran, self._sensitivity.outputs)) if ran]
        known = [figures for figures in seen if figures is not None]
        return max(known) if seen and len(known) == len(seen) else None

    def _turn(self, before: int = 0) -> bool:
        """One turn after so many others; false where the data have ended and enough was derived of them."""
        if self._ended and distributed.total(self._derived) >= ENOUGH:
            return False
        tell(self._progress, self._stage)
        taken, expected = 0, min(self._size, getattr(self._batches, "samples", None) or self._size)
        for part in self._stream:
            if part is None:
                self._ended = True
                if taken or distributed.total(self._derived) >= ENOUGH:
                    break
                continue
            place, first, x = part
            if self._begun and len(place) == 1 and first < self._size:
                continue
            x = head(x, self._size - taken)
            taken += count(x)
            if place[0] % distributed.size() == distributed.rank():
                self._derive(first, x, mixed_seed(self._seed, *place))
            tell(self._progress, self._stage, before * self._size + taken, before * self._size + expected)
            if taken >= self._size:
                break
        return taken > 0

    def _derive(
        self, first: int, x: Any, seed: int, role: str = "model", observing: ExitStack | None = None
    ) -> None:
        number = count(x)
        with ExitStack() as stack:
            for collector in self._collectors:
                collector.begin(first, number)
                stack.enter_context(collector)
            passes = self._sensitivity.run(x, first, seed, most=self._most, role=role, observing=observing)
        self._derived += number * passes
        self._ran += number


def _endless(batches: Iterable[tuple[Any, Any]]) -> Iterator[tuple[tuple[int, ...], int, Any] | None]:
    """The batches, each with its number (``(index,)``, then ``(index, again)``) and that of its first sample;
    ``None`` after the last of them, and on from the first, unless there is none."""
    for again in itertools.count():
        first = 0
        for index, (x, _) in enumerate(batches):
            yield ((index, again) if again else (index,)), first, x
            first += count(x)
        if not first:
            return
        yield None
