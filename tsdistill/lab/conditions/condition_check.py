"""``tsdistill.lab.check``: how far the theorems' conditions hold for a student and its teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.lab.conditions.boundary_observers import BOUNDARIES, watch_boundaries
from tsdistill.lab.conditions.condition_claims import advise, judge
from tsdistill.lab.conditions.pair_sums import Tally
from tsdistill.lab.conditions.rectifier_pass import Pass
from tsdistill.lab.layers.theorem_quantities import implied_precision
from tsdistill.lab.results import Conditions
from tsdistill.models import info_of
from tsdistill.models.files.stored_weights import check_finite
from tsdistill.runtime.forward import head
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.progress import Progress, expect, tell
from tsdistill.statistics.prepared_data import Prepared, prepare

GRADIENTS = "gradients on samples"
_GRADIENTS = 8.0
"""Its cost for each sample, in forward passes of one model: both run forwards and backwards."""


def check(
    model: nn.Module,
    teacher: nn.Module,
    data: Any = None,
    *,
    samples: int = 512,
    batch_size: int = 32,
    points: int = 4,
    seed: int = 0,
    strict: bool = False,
    example_input: Any = None,
    input_size: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str | None = None,
    transform: Callable[[Any], Any] | None = None,
    progress: Progress | None = None,
) -> Conditions:
    """Measure what the theorems of arXiv 1909.13458 ask for on a student and its teacher.

    The gradient is the one of Lemma 1: g_l(x) = D_l (A_l f*_l − B_l f_l), that is the output's difference
    carried back to the student's pre-activations; its norm is divided by that of the first term (root mean
    square over samples), so a student that gives 0 is at 1 and one without gradient at 0. Observers (Theorems
    2 and 3) are looked for where samples have been moved onto the boundaries of the teacher's lowest nodes.

    Args:
        model: the student; it is left as it was.
        teacher: a model that takes the same inputs and gives outputs of the same shape.
        data: what ``tsdistill.data.open_data`` takes; ``None`` for a synthetic source.
        samples: how many samples to look at.
        batch_size: samples a pass.
        points: samples moved onto the boundary of each of the teacher's lowest nodes.
        seed: of everything random.
        strict: a sample that cannot be read is an error; otherwise it is left out, counted and named.
        example_input: one input (batch 1) when the model does not know how its inputs look.
        input_size: shape of one sample, in place of what the model says.
        mean: per-channel mean, likewise.
        std: per-channel standard deviation, likewise.
        interpolation: of resizing, likewise.
        transform: replaces resizing, cropping and normalising.
        progress: is called with the phase, the samples done and how many there are.

    Raises:
        TsdistillError: weights that are not finite, data that do not fit, samples that are not floating
            tensors, outputs of different shapes, or a model without a rectifier.
    """
    if samples < 2 or batch_size < 1 or points < 1:
        raise TsdistillError(
            f"the check takes samples >= 2, batch size >= 1 and points >= 1, not {samples}, {batch_size} and "
            f"{points}"
        )
    check_finite(model, "the student")
    check_finite(teacher, "the teacher")
    prepared = prepare(
        model,
        data,
        teacher=teacher,
        samples=samples,
        batch_size=batch_size,
        seed=seed,
        strict=strict,
        example_input=example_input,
        input_size=input_size,
        mean=mean,
        std=std,
        interpolation=interpolation,
        transform=transform,
    )
    with evaluation_mode(model, teacher):
        expect(progress, {GRADIENTS: _GRADIENTS * samples, BOUNDARIES: 0.0})
        tally, kept = _gathered(model, teacher, prepared, samples, seed, progress)
        boundaries = watch_boundaries(model, teacher, kept, points, seed, progress)
    student, lessons = tally.student(), tally.teacher()
    inputs = kept[0].numel() + 1
    precision = None
    alpha = tally.alpha()
    if alpha is not None:
        best = alpha.max(0).values
        found = implied_precision(tally.largest, best, sum(alpha.shape), inputs)
        precision = tuple(found.tolist())
    claims = judge(student, lessons, boundaries, precision, tally.smooth, tally.seen, inputs)
    return Conditions(
        arch=info_of(model).arch,
        teacher_arch=info_of(teacher).arch,
        data=prepared.description,
        synthetic=prepared.synthetic,
        samples=tally.seen,
        claims=claims,
        student=student,
        teacher=lessons,
        observed=boundaries.share,
        observers=boundaries.observers,
        precision=precision,
        advice=advise(claims),
        notes=(*prepared.notes, *boundaries.notes),
    )


def _gathered(
    model: nn.Module,
    teacher: nn.Module,
    prepared: Prepared,
    samples: int,
    seed: int,
    progress: Progress | None,
) -> tuple[Tally, Tensor]:
    """Sums over the data, and the samples themselves (floating, at most ``samples``)."""
    generator = torch.Generator().manual_seed(seed)
    tally = Tally()
    kept: list[Tensor] = []
    for x, _ in prepared:
        if tally.seen >= samples:
            break
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TsdistillError(
                "the check follows gradients to real-valued samples, these are not a floating tensor; give "
                "data of images or vectors"
            )
        x = head(x, samples - tally.seen)
        tally.add(Pass(model, x), Pass(teacher, x), generator)
        kept.append(x.cpu())
        tell(progress, GRADIENTS, tally.seen, samples)
    if tally.seen < 2:
        raise TsdistillError("the check needs at least 2 samples; give other data (data=)")
    return tally, torch.cat(kept)
