"""The settings of the experiment augmentation, and its students that are trained on few samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.augmentation import Setting, augmented, opened, prepared
from tsdistill.errors import TsdistillError
from tsdistill.lab.engine import FiniteSamples, Networks, decaying_teachers, random_students, stacked, train
from tsdistill.lab.engine.random_draws import generator_of
from tsdistill.lab.experiment import Settings, option, positive

COPIES = 3
"""Samples that augmentation makes of one: on a boundary and either side, or itself and two moved ones."""


@dataclass(frozen=True)
class Augmentation(Settings):
    """The settings of augmentation: the sweep, and the training."""

    counts: tuple[int, ...] = option(
        (30, 60, 120, 270, 510, 1110), "training samples N in all, augmented ones counted; multiples of 3"
    )
    over: tuple[int, ...] = option((1, 2, 5, 10), "over-realisation: student nodes for each teacher node")
    seeds: int = option(8, "teachers and students drawn for each")
    inputs: int = option(100, "dimension d of the Gaussian input")
    nodes: int = option(5, "nodes m of the teacher")
    outputs: int = option(50, "dimension c of the output")
    decay: float = option(1.0, "p: fan-out norms fall as 1/j^p")
    steps: int = option(20_000, "steps of SGD, 100,000 in the paper")
    batch: int = option(16, "samples a step")
    rate: float = option(0.01, "learning rate; a tenth of it for the last three tenths of the steps")
    start: float = option(0.1, "norm of fan-in and fan-out weights of a student node at its start")
    sides: float = option(3.0, "teacher-aware: how far from the boundary, in deviations of its input")
    spread: float = option(0.3, "teacher-agnostic: how far along each random direction, as a part of ‖x‖")
    target: float = option(0.05, "the loss whose N is looked for, as a part of the loss of giving 0")

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(
            self, "counts", "over", "seeds", "inputs", "nodes", "outputs", "steps", "batch", "rate", "start",
            "sides", "spread", "target",
        )  # fmt: skip
        if not math.isfinite(self.decay) or self.decay < 0:
            raise TsdistillError(f"--decay {self.decay:g}: give numbers 0 or more")
        for count in self.counts:
            if count % COPIES:
                raise TsdistillError(
                    f"--counts {count}: augmentation makes {COPIES} samples of one; give multiples"
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
    settings: Augmentation, over: int, at: Sequence[int], tell: Callable[[int], None], device: torch.device
) -> Cell:
    """Losses E‖f*(x) − f(x)‖²/2 of all students of one over-realisation.

    Returns:
        ``over``, ``energy`` (the loss of output 0), ``evaluation`` (on fresh samples) and ``training``, both
        ``[counts][strategies][seeds]``.
    """
    dtype = getattr(torch, settings.dtype)
    seeds = [settings.seed * 1000 + seed for seed in range(settings.seeds)]
    teachers = decaying_teachers(
        seeds, settings.inputs, settings.nodes, settings.outputs, settings.decay, biases=False, dtype=dtype
    )
    sets = [
        torch.stack([
            training_set(settings, teachers.module(number).eval(), strategy, count, seed)
            for strategy in STRATEGIES
            for number, seed in enumerate(seeds)
        ])
        for count in settings.counts
    ]  # fmt: skip
    students = random_students(
        seeds, settings.inputs, (settings.nodes * over,), settings.outputs,
        scale=settings.start, biases=False, dtype=dtype,
    )  # fmt: skip
    stacks = len(sets) * len(STRATEGIES)
    students = stacked([students] * stacks).to(device=device)
    taught = stacked([teachers] * stacks).to(device=device)
    train(
        students,
        taught,
        SeparateSamples([x.to(device) for x in sets], settings.seed),
        steps=settings.steps,
        batch=settings.batch,
        rate=lambda step: settings.rate if step < 0.7 * settings.steps else settings.rate / 10,
        record=lambda step, _: tell(step),
        at=at,
    )
    fresh = torch.randn(
        EVALUATION_SAMPLES,
        settings.inputs,
        generator=generator_of(EVALUATION_DRAW, settings.seed),
        dtype=torch.float64,
    ).to(dtype=dtype, device=device)
    evaluation, training = [], []
    for number, x in enumerate(sets):
        here = slice(number * len(x), (number + 1) * len(x))
        pair = students.some(here), taught.some(here)
        evaluation.append(_rows(output_losses(*pair, fresh)))
        training.append(_rows(output_losses(*pair, x.to(device))))
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
        self._sets = [FiniteSamples(x, seed * 100_003 + x.shape[1]) for x in sets]

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
        torch.randn(rows, settings.inputs, generator=generator_of(kind, seed), dtype=torch.float64).to(dtype)
        for kind, rows in ((BASE_DRAW, base), (STRENGTH_DRAW, STRENGTH_SAMPLES))
    )
    setting = Setting(teacher, lambda: [known], generator_of(SHIFT_DRAW, seed))
    strategy_state = prepared(opened(settings.strategies[strategy]), setting)
    return augmented(strategy_state, x, None, setting.generator)[0]


def output_losses(students: Networks, teachers: Networks, x: Tensor) -> Tensor:
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
