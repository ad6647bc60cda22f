"""The settings of the experiment augmentation, and its students that are trained on few samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.augmentation import Setting, augmented, opened, prepared
from tsdistill.errors import TsdistillError
from tsdistill.lab import engine
from tsdistill.lab.experiment import SweepSettings
from tsdistill.options.option_fields import option, written

COPIES = 3
"""Samples that augmentation makes of one: on a boundary and either side, or itself and two moved ones."""


@dataclass(frozen=True)
class Augmentation(SweepSettings):
    """The settings of augmentation: the sweep, and the training."""

    counts: tuple[int, ...] = option(
        (30, 60, 120, 270, 510, 1110),
        "Training samples N in all, augmented ones counted; multiples of 3",
        above=0,
    )
    seeds: int = option(8, "Teachers and students drawn for each", above=0)
    inputs: int = option(100, "Dimension d of the Gaussian input", above=0)
    outputs: int = 50
    steps: int = option(20_000, "Steps of SGD, 100,000 in the paper", above=0)
    rate: float = option(0.01, "Learning rate; a tenth of it for the last three tenths of the steps", above=0)
    start: float = 0.1
    sides: float = option(
        3.0, "Teacher-aware: how far from the boundary, in deviations of its input", above=0
    )
    spread: float = option(
        0.3, "Teacher-agnostic: how far along each random direction, as a part of ‖x‖", above=0
    )
    target: float = option(0.05, "The loss whose N is looked for, as a part of the loss of giving 0", above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for count in self.counts:
            if count % COPIES:
                raise TsdistillError(
                    f"{written('counts')} {count}: augmentation makes {COPIES} samples of one; give multiples"
                )

    @property
    def strategies(self) -> dict[str, str]:
        """The argument of `tsdistill.augmentation.opened` for each strategy."""
        return {
            "none": "none",
            "agnostic": f"teacher-agnostic:copies=yes,scale={self.spread}",
            "aware": f"teacher-aware:copies=yes,share=1,scale={self.sides}",
        }


STRATEGIES = ("none", "agnostic", "aware")
EVALUATION_SAMPLES, STRENGTH_SAMPLES = 4096, 512
"""Fresh samples of the evaluation loss, and samples on which augmentation measures the teacher's nodes."""
BASE_DRAW, SHIFT_DRAW, EVALUATION_DRAW, STRENGTH_DRAW = 11, 12, 13, 14
"""Keys of the random streams: base samples, their moves, evaluation, strength of the teacher's nodes."""

Cell = dict[str, Any]


@torch.no_grad()
def few_sample_cell(
    settings: Augmentation,
    over: int,
    at: Sequence[int],
    tell: Callable[[int], None],
    where: Mapping[str, Any],
) -> Cell:
    """Losses E‖f*(x) − f(x)‖²/2 of all students of one over-realisation.

    Args:
        settings: of the experiment.
        over: student nodes for each teacher node.
        at: steps at which ``tell`` is called.
        tell: progress callback.
        where: ``dtype`` and ``device``.

    Returns:
        ``over``, ``energy`` (the loss of output 0), ``evaluation`` (on fresh samples) and ``training``, both
        ``[counts][strategies][seeds]``.
    """
    dtype, device = where["dtype"], where["device"]
    seeds = [settings.seed * 1000 + seed for seed in range(settings.seeds)]
    d, m, c = settings.inputs, settings.nodes, settings.outputs
    teachers = engine.decaying_teachers(seeds, d, m, c, settings.decay, biases=False, dtype=dtype)
    sets = [
        torch.stack([
            training_set(settings, teachers.module(number).eval(), strategy, count, seed)
            for strategy in STRATEGIES
            for number, seed in enumerate(seeds)
        ]).to(device)
        for count in settings.counts
    ]  # fmt: skip
    stacks = len(sets) * len(STRATEGIES)
    start = engine.random_students(seeds, d, (m * over,), c, scale=settings.start, biases=False, **where)
    students = engine.stacked([start] * stacks)
    taught = engine.stacked([teachers.to(device=device)] * stacks)
    engine.train(
        students,
        taught,
        SeparateSamples(sets, settings.seed),
        steps=settings.steps,
        batch=settings.batch,
        rate=lambda step: settings.rate if step < 0.7 * settings.steps else settings.rate / 10,
        record=lambda step, _: tell(step),
        at=at,
    )
    generator = engine.generator_of(EVALUATION_DRAW, settings.seed)
    fresh = torch.randn(EVALUATION_SAMPLES, d, generator=generator, dtype=torch.float64).to(**where)
    evaluation, training = [], []
    for number, x in enumerate(sets):
        here = slice(number * len(x), (number + 1) * len(x))
        pair = students.some(here), taught.some(here)
        evaluation.append(_rows(output_losses(*pair, fresh)))
        training.append(_rows(output_losses(*pair, x)))
    energy = float(teachers.to(device=device)(fresh).square().sum(2).mean()) / 2
    return {"over": over, "energy": energy, "evaluation": evaluation, "training": training}


class SeparateSamples:
    """Finite sets of several sizes; each network draws from one of them.

    Args:
        sets: ``[s, N, d]`` each, N different.
        seed: of the order; the draw from one set does not depend on the others.
    """

    shared = False

    def __init__(self, sets: Sequence[Tensor], seed: int) -> None:
        self._sets = [engine.FiniteSamples(x, seed * 100_003 + x.shape[1]) for x in sets]

    def rows(self, count: int) -> Tensor:
        """The next ``count`` samples of every network, ``[S, count, d]``."""
        return torch.cat([each.rows(count) for each in self._sets])


def training_set(settings: Augmentation, teacher: nn.Module, strategy: str, count: int, seed: int) -> Tensor:
    """Samples ``[count, d]``: x ~ N(0, I) and their augmentations, ``count`` in all.

    The teacher's strengths and deviations are measured on inputs outside every training set.

    Args:
        settings: of the experiment.
        teacher: network whose boundaries samples are moved onto.
        strategy: one of `STRATEGIES`.
        count: N.
        seed: of the samples and their moves; the x of a smaller N are the first x of a larger one.
    """
    base = count if strategy == "none" else count // COPIES
    dtype = next(teacher.parameters()).dtype
    x, known = (
        torch.randn(rows, settings.inputs, generator=engine.generator_of(kind, seed), dtype=torch.float64).to(
            dtype
        )
        for kind, rows in ((BASE_DRAW, base), (STRENGTH_DRAW, STRENGTH_SAMPLES))
    )
    setting = Setting(teacher, lambda: [known], engine.generator_of(SHIFT_DRAW, seed))
    strategy_state = prepared(opened(settings.strategies[strategy]), setting)
    return augmented(strategy_state, x, None, setting.generator)[0]


def output_losses(students: engine.Networks, teachers: engine.Networks, x: Tensor) -> Tensor:
    """E‖f*(x) − f(x)‖²/2 ``[S]`` on ``x [N, d]`` or ``[S, N, d]``."""
    return (students(x) - teachers(x)).square().sum(2).mean(1) / 2


def samples_needed(counts: Sequence[int], losses: Sequence[float], target: float) -> float | None:
    """The N from which on a loss stays at ``target`` or below, by log-log interpolation; ``None``: more.

    Args:
        counts: N, rising.
        losses: at each N.
        target: largest loss.
    """
    least: float | None = None
    for k in range(len(counts) - 1, -1, -1):
        if losses[k] > target:
            if least is not None:
                (n0, l0), (n1, l1) = zip(counts[k : k + 2], losses[k : k + 2], strict=True)
                part = math.log(l0 / target) / math.log(l0 / max(l1, 1e-300))
                least = n0 * (n1 / n0) ** part
            return least
        least = float(counts[k])
    return least


def mean_losses(cell: Cell, strategy: str, what: str = "evaluation") -> list[float]:
    """Geometric mean over seeds of the loss at each N."""
    which = STRATEGIES.index(strategy)
    return [geometric_mean([max(value, 1e-300) for value in rows[which]]) for rows in cell[what]]


def _rows(values: Tensor) -> list[list[float]]:
    rows: list[list[float]] = values.double().cpu().view(len(STRATEGIES), -1).tolist()
    return rows
