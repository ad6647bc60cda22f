"""``tsdistill.lab.check``: how far the theorems' conditions hold for a student and its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.lab.conditions.boundary_observers import BOUNDARIES, observe_boundaries
from tsdistill.lab.conditions.condition_claims import advice, condition_claims
from tsdistill.lab.conditions.rectifier_pass import PairSums, RectifierPass
from tsdistill.lab.layers.theorem_quantities import implied_precision
from tsdistill.lab.results import Conditions
from tsdistill.models import info_of
from tsdistill.models.files.stored_weights import check_finite
from tsdistill.options.data_options import DataOptions
from tsdistill.options.old_names import grouped
from tsdistill.options.option_fields import written
from tsdistill.runtime.forward import head
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.progress import Progress, expect, tell
from tsdistill.statistics.prepared_data import PreparedData, prepare

SAMPLES = 512
"""Samples that are looked at unless others are asked for, as many as there are synthetic ones."""

GRADIENTS = "gradients on samples"
_GRADIENTS = 8.0
"""Cost of one sample, in forward passes of one model: both models run forward, and backward three times."""


@grouped(inputs=DataOptions)
def check(
    model: nn.Module,
    teacher: nn.Module,
    data: Any = None,
    *,
    points: int = 4,
    inputs: DataOptions | Mapping[str, Any] = DataOptions(),
    seed: int = 0,
    progress: Progress | None = None,
) -> Conditions:
    """Measure the conditions of the theorems of arXiv 1909.13458 on a student and its teacher.

    The gradient is that of Lemma 1, g_l(x) = D_l (A_l f*_l − B_l f_l): the difference of the outputs,
    propagated back to the student's pre-activations. Its norm is divided by that of the first term (root mean
    square over samples), so it is 1 for a student with output 0, and 0 at a critical point. Observers
    (Theorems 2 and 3) are counted on samples that are moved onto the boundaries of the teacher's lowest
    nodes.

    Args:
        model: the student; it is not changed.
        teacher: a model that takes the same inputs and gives outputs of the same shape.
        data: what ``tsdistill.data.open_data`` takes; ``None`` for a synthetic source.
        points: samples moved onto the boundary of each of the teacher's lowest nodes.
        inputs: how samples are read and how inputs look (`DataOptions`, or some of them by name); 512
            samples unless others are asked for.
        seed: of everything random.
        progress: is called with the phase, the samples done and how many there are.

    Raises:
        TsdistillError: weights that are not finite, data that do not fit, samples that are not floating
            tensors, outputs of different shapes, or a model without a rectifier.
    """
    inputs = DataOptions.of(inputs)
    samples = SAMPLES if inputs.samples is None else inputs.samples
    if samples < 2:
        raise TsdistillError(f"{written('samples')} must be at least 2 for the check, not {samples}")
    if points < 1:
        raise TsdistillError(f"{written('points')} must be at least 1, not {points}")
    check_finite(model, "the student")
    check_finite(teacher, "the teacher")
    prepared = prepare(model, data, replace(inputs, samples=samples), teacher=teacher, seed=seed)
    with evaluation_mode(model, teacher):
        expect(progress, {GRADIENTS: _GRADIENTS * samples, BOUNDARIES: 0.0})
        tally, kept = _gathered(model, teacher, prepared, samples, seed, progress)
        boundaries = observe_boundaries(model, teacher, kept, points, seed, progress)
    student, lessons = tally.student(), tally.teacher()
    features = kept[0].numel() + 1
    precision = None
    alpha = tally.alpha()
    if alpha is not None:
        best = alpha.max(0).values
        bounds = implied_precision(tally.largest, best, sum(alpha.shape), features)
        precision = tuple(bounds.tolist())
    claims = condition_claims(student, lessons, boundaries, precision, tally.smooth, tally.seen, features)
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
        advice=advice(claims),
        notes=(*prepared.notes, *boundaries.notes),
    )


def _gathered(
    model: nn.Module,
    teacher: nn.Module,
    prepared: PreparedData,
    samples: int,
    seed: int,
    progress: Progress | None,
) -> tuple[PairSums, Tensor]:
    """The sums over the data, and the samples themselves (at most ``samples``)."""
    generator = torch.Generator().manual_seed(seed)
    tally = PairSums()
    kept: list[Tensor] = []
    for x, _ in prepared:
        if tally.seen >= samples:
            break
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TsdistillError(
                "the check needs gradients with respect to real-valued samples, these are not a floating "
                "tensor; give images or vectors"
            )
        x = head(x, samples - tally.seen)
        tally.add(RectifierPass(model, x), RectifierPass(teacher, x), generator)
        kept.append(x.cpu())
        tell(progress, GRADIENTS, tally.seen, samples)
    if tally.seen < 2:
        raise TsdistillError(f"the check needs at least 2 samples; give other {written('data')}")
    return tally, torch.cat(kept)
