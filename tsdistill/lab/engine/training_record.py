"""The record of a training: best correlation of each teacher node, and the loss, at chosen steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tsdistill.lab.engine.network_stack import Networks
from tsdistill.lab.engine.node_statistics import best_correlations, energies, losses
from tsdistill.lab.engine.random_draws import Samples
from tsdistill.lab.engine.sgd import Rate, train


@dataclass(frozen=True)
class TrainingRecord:
    """Correlations and losses of S students at R steps.

    Attributes:
        at: the steps.
        correlations: ``[R, S, m]``, the largest correlation of each teacher node with a student node.
        losses: ``[R, S]``, E‖f* − f‖² / E‖f*‖² on samples outside the training.
    """

    at: tuple[int, ...]
    correlations: Tensor
    losses: Tensor


def observation_steps(steps: int, count: int, *also: int) -> tuple[int, ...]:
    """About ``count`` steps from 0 to ``steps``, dense at the start, and those in ``also``."""
    first = max(1, steps // 200)
    ratio = (steps / first) ** (1 / max(1, count - 2))
    rising = (round(first * ratio**k) for k in range(count - 1))
    return tuple(sorted({0, steps, *also, *(step for step in rising if step < steps)}))


def train_and_record(
    students: Networks,
    teachers: Networks,
    samples: Samples,
    x: Tensor,
    *,
    steps: int,
    batch: int,
    rate: Rate,
    at: Sequence[int],
    tell: Callable[[int], None],
) -> TrainingRecord:
    """Train as `train` does and observe the lowest hidden layer at the steps ``at``.

    Args:
        students: trained in place.
        teachers: one for each student.
        samples: source of the training samples.
        x: samples ``[N, d]`` of the observation.
        steps: number of steps.
        batch: B.
        rate: step size.
        at: steps to observe after.
        tell: called with each observed step.
    """
    energy = energies(teachers, x)
    matched: list[Tensor] = []
    lost: list[Tensor] = []

    def record(step: int, now: Networks) -> None:
        matched.append(best_correlations(teachers, now, x)[0].cpu())
        lost.append((losses(teachers, now, x) / energy).cpu())
        tell(step)

    train(students, teachers, samples, steps=steps, batch=batch, rate=rate, record=record, at=at)
    return TrainingRecord(tuple(at), torch.stack(matched), torch.stack(lost))
