"""Two layers: L-shaped curves and recovery of the teacher over strength decay and over-realisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from tsdistill.lab import engine
from tsdistill.lab.engine.node_statistics import curve_points, l_curve, mean, rank_correlation, rounded
from tsdistill.lab.experiment import Context, Experiment, StudentSettings
from tsdistill.lab.results import Claim, Outcome, Table
from tsdistill.options.option_fields import option

RECOVERED = 0.95
"""Correlation from which on a teacher node counts as recovered: above
`engine.ALIGNED`, so that its neighbours do not count too."""
SMALL_LOSS = 1e-3
"""Relative loss below which a student counts as trained: its gradient is small."""
TRAINING_DRAW, OBSERVED_DRAW = 0, 1
"""What is added to twice the seed for the samples of the training and of the observation."""
CURVE_POINTS = 60
"""Largest number of student nodes that the figure of a decay shows, so that dots can be told apart."""

Cell = dict[str, Any]


@dataclass(frozen=True)
class DecaySettings(StudentSettings):
    """The settings of experiments on teachers whose strengths decay by several exponents."""

    decay: tuple[float, ...] = option(
        (0.0, 0.5, 1.0, 1.5, 2.0, 2.5), "Strength decays p: fan-out norms fall as 1/j^p", least=0
    )
    seeds: int = option(32, "Teachers and students drawn for each p", above=0)
    inputs: int = option(100, "Dimension d of the Gaussian input", above=0)
    outputs: int = 50
    rate: float = 0.01
    biases: bool = option(True, "Whether nodes have biases")


@dataclass(frozen=True)
class TwoLayer(DecaySettings):
    """The settings of two-layer: the sweep, and the training."""

    nodes: tuple[int, ...] = option((5, 10, 20), "Nodes m of the teachers", above=0)
    over: tuple[int, ...] = option(
        (1, 2, 5, 10), "Over-realisation: student nodes for each teacher node", above=0
    )
    early: float = option(0.1, "Share of the steps after which recovery counts as early", above=0, most=1)
    start: float = 1.0

    @property
    def early_step(self) -> int:
        """The step at which recovery counts as early."""
        return min(self.steps, max(1, round(self.early * self.steps)))


def run(settings: TwoLayer, context: Context) -> Outcome:
    """Train every student and compare recovery early and late in the training.

    Strength decay as in arXiv 1909.13458: teacher node j has a fan-out norm of 1/j^p. All decays and seeds of
    a number of nodes and over-realisation are one stack and one cached cell. Student nodes' strength
    is ‖v_k‖ · σ_k, σ_k the standard deviation of their activation.

    Raises:
        TsdistillError: the largest stack does not fit into memory.
    """
    where = checked_device(settings, max(settings.nodes), max(settings.over))
    at = engine.observation_steps(settings.steps, 16, settings.early_step)
    sizes = [{"nodes": m, "over": over} for m in settings.nodes for over in settings.over]
    key = settings.key("nodes", "over") | {"at": at}
    cells = engine.sweep(
        context, "two-layer", key, sizes, partial(_cell, settings=settings, at=at, where=where), at
    )
    return Outcome(
        "two-layer",
        {},
        claims(settings, cells),
        (_recovery(settings, cells), _losses(settings, cells)),
        {"at": list(at), "early": settings.early_step, "cells": cells},
        (
            "All networks of a cell draw the same samples, every one of them once (no sample is repeated).",
            f"A teacher node is recovered when a student node's correlation with it is above {RECOVERED}.",
        ),
    )


def checked_device(settings: DecaySettings, m: int, over: int) -> dict[str, Any]:
    """The keywords ``dtype`` and ``device``, once the largest stack of students fits into memory.

    Args:
        settings: of the experiment.
        m: largest number of teacher nodes.
        over: largest number of student nodes for each of them.

    Raises:
        TsdistillError: it does not fit, or the device does not exist.
    """
    return engine.training_device(
        settings, len(settings.decay) * settings.seeds, settings.inputs, (m,), (m * over,),
        samples=engine.OBSERVED_SAMPLES, reduce="--seeds, --decay, --nodes, --over or --inputs",
    )  # fmt: skip


def networks_of(
    settings: DecaySettings, m: int, over: int, where: Mapping[str, Any]
) -> tuple[engine.Networks, engine.Networks]:
    """Teachers and students, sorted by decay, then by seed.

    Args:
        settings: of the experiment.
        m: nodes of the teachers.
        over: student nodes for each of them.
        where: ``dtype`` and ``device``.
    """
    seeds = [settings.seed * 1000 + seed for seed in range(settings.seeds)]
    d, c, biases = settings.inputs, settings.outputs, settings.biases
    teachers = [engine.decaying_teachers(seeds, d, m, c, p, biases=biases, **where) for p in settings.decay]
    start = engine.random_students(seeds, d, (m * over,), c, scale=settings.start, biases=biases, **where)
    return engine.stacked(teachers), engine.stacked([start] * len(settings.decay))


@dataclass(frozen=True)
class TrainedStack:
    """Teachers and trained students, the samples on which nodes are observed, and the observations."""

    teachers: engine.Networks
    students: engine.Networks
    x: Tensor
    record: engine.TrainingRecord


def trained_stack(
    settings: DecaySettings,
    m: int,
    over: int,
    at: Sequence[int],
    tell: Callable[[int], None],
    where: Mapping[str, Any],
) -> TrainedStack:
    """Train the students of all decays and seeds at once, and observe them at the steps ``at``.

    Args:
        settings: of the experiment.
        m: nodes of the teachers.
        over: student nodes for each of them.
        at: steps.
        tell: called with each of them.
        where: ``dtype`` and ``device``.
    """
    teachers, students = networks_of(settings, m, over, where)
    observed, samples = (
        engine.GaussianSamples(2 * settings.seed + draw, settings.inputs, **where)
        for draw in (OBSERVED_DRAW, TRAINING_DRAW)
    )
    x = observed.rows(engine.OBSERVED_SAMPLES)
    record = engine.train_and_record(
        students, teachers, samples, x,
        steps=settings.steps, batch=settings.batch, rate=settings.rate, at=at, tell=tell,
    )  # fmt: skip
    return TrainedStack(teachers, students, x, record)


def _cell(
    tell: Callable[[int], None],
    nodes: int,
    over: int,
    *,
    settings: TwoLayer,
    at: Sequence[int],
    where: Mapping[str, Any],
) -> Cell:
    """The figures of the students of one size: each entry is a list over decays."""
    stack = trained_stack(settings, nodes, over, at, tell, where)
    students, seen = stack.students, stack.record
    shape = (len(at), len(settings.decay), settings.seeds)
    matched, lost = seen.correlations.unflatten(1, shape[1:]), seen.losses.view(shape)
    best = engine.correlations(stack.teachers, students, stack.x).amax(1).cpu().view(*shape[1:], -1)
    norms = engine.fan_out_norms(students).cpu().view_as(best)
    strengths = engine.deviations(students, stack.x)[0].cpu().view_as(best) * norms
    recovered = (matched > RECOVERED).float()
    early = list(at).index(settings.early_step)
    small = lost[-1] < SMALL_LOSS
    return {
        "nodes": nodes,
        "over": over,
        "decay": list(settings.decay),
        "loss": rounded(lost.median(2).values.T),
        "correlation": rounded(matched.mean((2, 3)).T),
        "early": rounded(recovered[early].mean(1)),
        "late": rounded(recovered[-1].mean(1)),
        "small": small.sum(1).tolist(),
        "found": rounded([_recovered(matched[-1, p], small[p]) for p in range(shape[1])]),
        "order": rounded([_order(matched[early, p]) for p in range(shape[1])]),
        "curve": [l_curve(best[p], strengths[p]) for p in range(shape[1])],
        "points": [curve_points(best[p], strengths[p], CURVE_POINTS) for p in range(shape[1])],
        "norms": [curve_points(best[p], norms[p], CURVE_POINTS) for p in range(shape[1])],
    }


def claims(settings: TwoLayer, cells: Sequence[Cell]) -> tuple[Claim, ...]:
    """The claims of the theory on the cells, and whether they held."""
    return _everyone(cells), _shape(settings, cells), _more(settings, cells), _strong(settings, cells)


def _everyone(cells: Sequence[Cell]) -> Claim:
    small = sum(sum(each["small"]) for each in cells)
    shares = [
        (share, count)
        for each in cells
        for share, count in zip(each["found"], each["small"], strict=True)
        if count
    ]
    share = sum(a * b for a, b in shares) / small if small else 0.0
    return Claim(
        "at small loss every teacher node has an aligned student node (correlation 0.9 or more)",
        "arXiv 1909.13458, Theorems 2 and 4",
        f"{share:.1%} of the teacher nodes of the {small} students with a relative loss below "
        f"{SMALL_LOSS:g}; held from 99 % on"
        if small
        else f"no student came below a relative loss of {SMALL_LOSS:g}",
        share >= 0.99 if small else None,
    )


def _shape(settings: TwoLayer, cells: Sequence[Cell]) -> Claim:
    widest = max(settings.over)
    curves = [
        curve
        for each in cells
        if each["over"] == widest
        for curve, small in zip(each["curve"], each["small"], strict=True)
        if 2 * small > settings.seeds
    ]
    ratios = [curve["ratio"] for curve in curves if curve["ratio"] is not None]
    unaligned = mean([curve["unaligned"] for curve in curves])
    measured = (
        f"{widest}x, decays whose students mostly have a relative loss below {SMALL_LOSS:g}: nodes with "
        f"correlation below 0.5 have {mean(ratios):.3f} times the strength of aligned ones (medians), all "
        f"that are not aligned {unaligned:.1%} of the squared strength; held below 0.2 and 5 %"
    )
    return Claim(
        "student nodes that are aligned with no teacher node have next to no fan-out: the L-shaped curve",
        "arXiv 1909.13458, Theorem 3",
        measured if ratios else f"no decay at {widest}x has such students, or all their nodes are aligned",
        mean(ratios) < 0.2 and unaligned < 0.05 if ratios else None,
    )


def _more(settings: TwoLayer, cells: Sequence[Cell]) -> Claim:
    rates = {
        over: [
            mean([value for each in cells if each["over"] == over for row in each[when] for value in row])
            for when in ("early", "late")
        ]
        for over in sorted(settings.over)
    }
    measured = ", ".join(f"{over}x {early:.0%} / {late:.0%}" for over, (early, late) in rates.items())
    least, most = min(rates), max(rates)
    return Claim(
        "over-realised students recover more of the teacher",
        "arXiv 1909.13458, experiments; the talk",
        f"teacher nodes recovered early / late: {measured}; held if {most}x recovers more than {least}x late",
        None if least == most else rates[most][1] > rates[least][1],
    )


def _strong(settings: TwoLayer, cells: Sequence[Cell]) -> Claim:
    by_decay = {
        p: mean([each["order"][k] for each in cells if each["order"][k] is not None])
        for k, p in enumerate(settings.decay)
    }
    decaying = [value for p, value in by_decay.items() if p > 0 and not math.isnan(value)]
    measured = ", ".join(f"p = {p:g}: {value:.2f}" for p, value in by_decay.items())
    return Claim(
        "strong teacher nodes are recovered first, weak ones late",
        "arXiv 1909.13458, Theorem 5",
        f"rank correlation of strength with early best correlation, mean over students: {measured}; held if "
        "0.5 or more for every p above 0",
        min(decaying) >= 0.5 if decaying else None,
    )


def _recovered(matched: Tensor, small: Tensor) -> float | None:
    return float((matched[small] >= 0.9).float().mean()) if bool(small.any()) else None


def _order(matched: Tensor) -> float:
    index = range(matched.shape[1], 0, -1)
    return mean([rank_correlation(list(index), row.tolist()) for row in matched])


def _recovery(settings: TwoLayer, cells: Sequence[Cell]) -> Table:
    rows: list[tuple[Any, ...]] = []
    for each in cells:
        for when in ("early", "late"):
            shares = [f"{mean(row):.0%}" for row in each[when]]
            rows.append((each["nodes"], f"{each['over']}x", when, *shares))
    return Table(
        f"Teacher nodes recovered, after {settings.early_step:,} and {settings.steps:,} steps",
        ("teacher nodes", "over-realised", "when", *(f"p = {p:g}" for p in settings.decay)),
        tuple(rows),
    )


def _losses(settings: TwoLayer, cells: Sequence[Cell]) -> Table:
    rows = [
        (each["nodes"], f"{each['over']}x", *(f"{history[-1]:.1e}" for history in each["loss"]))
        for each in cells
    ]
    return Table(
        "Relative loss at the end, median over seeds",
        ("teacher nodes", "over-realised", *(f"p = {p:g}" for p in settings.decay)),
        tuple(rows),
    )


EXPERIMENT = Experiment(TwoLayer, {"nodes": (5,), "decay": (0.0, 1.0, 2.5), "seeds": 6, "steps": 20_000}, run)
