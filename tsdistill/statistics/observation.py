"""One pass over the data drives student and teacher together and keeps moments only."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.runtime.finite import checked_forward
from tsdistill.runtime.forward import forward, head
from tsdistill.runtime.hooks import Clock
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import count
from tsdistill.runtime.progress import Progress, tell
from tsdistill.runtime.randomness import seeded
from tsdistill.statistics import distributed
from tsdistill.statistics.analysis_stages import OBSERVE
from tsdistill.statistics.covariance import Covariance, CovarianceCollector
from tsdistill.statistics.moments import Moments
from tsdistill.statistics.pairing import Listener, PairedMoments
from tsdistill.statistics.sample_blocks import PositionSampler
from tsdistill.statistics.sites import ModelSites


@dataclass(frozen=True, eq=False)
class Observation:
    """What one pass over the data has left.

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


def observe(
    model: nn.Module,
    sites: ModelSites,
    batches: Iterable[tuple[Any, Any]],
    *,
    teacher: nn.Module | None = None,
    teacher_sites: ModelSites | None = None,
    pairs: Mapping[str, str] | None = None,
    keys: Collection[str] | None = None,
    positions: int | str | None = "auto",
    seed: int = 0,
    full: bool = False,
    listeners: Mapping[str, Sequence[Listener]] | None = None,
    around: Callable[[int], AbstractContextManager[None]] | None = None,
    progress: Progress | None = None,
) -> Observation:
    """Drive ``model`` (and ``teacher``) over ``batches`` and collect moments.

    In a job of several processes (``torch.distributed``) every process takes its share of the batches and all
    of them return the same.

    Args:
        model: the student.
        sites: its sites.
        batches: yields ``(x, y)``; ``y`` is not looked at.
        teacher: second model, run on the same batches first; the model itself to observe pairs of its own
            groups.
        teacher_sites: its sites.
        pairs: student group name -> teacher group name, read at their primary readings.
        keys: site keys whose covariance is wanted; all by default.
        positions: positions looked at in each sample of a feature map (see `PositionSampler`).
        seed: of the positions.
        full: keep the covariances of both sides of every pair too, for metrics that want them.
        listeners: by student group, who is handed the rows of the pair as they come.
        around: the forward of ``model`` on the batch of a number runs inside what this gives for the number.
        progress: is told how many samples are done.

    Raises:
        TsdistillError: no data, activations that are not finite (names the layer), a forward that fails, or
            paired groups that do not see the same samples.
    """
    clock = Clock()
    expected = getattr(batches, "samples", None)
    drawn = PositionSampler(seed, positions, expected)
    wanted = [site for key, site in sites.sites.items() if keys is None or key in keys]
    watch = CovarianceCollector(model, wanted, drawn, clock)
    pairing = None
    if teacher is not None and teacher_sites is not None and pairs:
        pairing = PairedMoments(
            model, sites, teacher, teacher_sites, pairs, drawn, full=full, listeners=listeners, clock=clock
        )
    other = teacher if teacher is not model else None
    role = "model" if other is None else "student"
    samples = 0
    tell(progress, OBSERVE)
    start = time.perf_counter()
    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(model, *([other] if other is not None else [])))
        stack.enter_context(torch.no_grad())
        stack.enter_context(seeded(seed))
        measured = False
        for index, first, (x, _) in distributed.shared_batches(batches):
            drawn.begin(index)
            if pairing is not None:
                if not measured:
                    _measure(pairing, model, teacher or model, head(x, 1), role)
                    measured = True
                pairing.begin(count(x))
                if other is not None:
                    with pairing.teacher():
                        checked_forward(other, x, "teacher", f"in batch {index}")
            with (
                around(index) if around is not None else nullcontext(),
                watch,
                pairing.student() if pairing is not None else nullcontext(),
            ):
                checked_forward(model, x, role, f"in batch {index}")
            samples += count(x)
            tell(progress, OBSERVE, first + count(x), expected)
    seconds = time.perf_counter() - start
    samples = distributed.total(samples)
    if samples == 0:
        raise TsdistillError("the data yields no samples; check the data specification and --samples")
    broken = watch.broken()
    if broken is not None:
        raise TsdistillError(
            f"layer {broken!r} of the {role} receives activations that are not finite (NaN or infinity); "
            "check the weights up to there, the precision and the data"
        )
    covariances = watch.finish()
    moments = pairing.finish() if pairing is not None else {}
    spent = {"moments": clock.seconds["moments"], "covariances": clock.seconds["covariances"]}
    return Observation(
        samples,
        covariances,
        moments,
        pairing.words if pairing is not None else {},
        {"forward": seconds - sum(spent.values()), **spent},
    )


def _measure(pairing: PairedMoments, student: nn.Module, teacher: nn.Module, x: Any, role: str) -> None:
    pairing.measure(lambda: forward(student, x, role), lambda: forward(teacher, x, "teacher"))
