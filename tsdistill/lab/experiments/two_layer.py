"""Two layers: L-shaped curves and recovery of the teacher over strength decay and over-realisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.lab.engine import (
    GaussianSamples,
    Networks,
    cached,
    check_memory,
    correlations,
    decaying_teachers,
    deviations,
    device_and_dtype,
    fan_out_norms,
    observation_steps,
    random_students,
    stacked,
    train_and_record,
    training_bytes,
)
from tsdistill.lab.engine.node_statistics import (
    OBSERVED_SAMPLES,
    curve_points,
    l_curve,
    mean,
    rank_correlation,
    rounded,
)
from tsdistill.lab.experiment import Context, Experiment, Settings, not_negative, option, positive
from tsdistill.lab.results import Claim, Outcome, Table

RECOVERED = 0.95
"""Correlation from which on a teacher node counts as recovered."""
SMALL_LOSS = 1e-3
"""Relative loss below which a student counts as trained: its gradient is small."""
TRAINING_DRAW, OBSERVED_DRAW = 0, 1
"""What is added to twice the seed for the samples of the training and of the observation."""
CURVE_POINTS = 60
"""Largest number of student nodes that the figure of a decay shows."""

Cell = dict[str, Any]


@dataclass(frozen=True)
class TwoLayer(Settings):
    """The settings of two-layer: the sweep, and the training."""

    nodes: tuple[int, ...] = option((5, 10, 20), "nodes m of the teachers")
    over: tuple[int, ...] = option((1, 2, 5, 10), "over-realisation: student nodes for each teacher node")
    decay: tuple[float, ...] = option((0.0, 0.5, 1.0, 1.5, 2.0, 2.5), "p: fan-out norms fall as 1/j^p")
    seeds: int = option(32, "teachers and students drawn for each")
    inputs: int = option(100, "dimension d of the Gaussian input")
    outputs: int = option(50, "dimension c of the output")
    steps: int = option(50_000, "steps of SGD")
    early: float = option(0.1, "share of the steps after which recovery counts as early")
    batch: int = option(16, "samples a step")
    rate: float = option(0.01, "learning rate")
    start: float = option(1.0, "norm of fan-in and fan-out weights of a student node at its start")
    biases: bool = option(True, "whether nodes have biases")

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(
            self, "nodes", "over", "seeds", "inputs", "outputs", "steps", "batch", "rate", "start", "early"
        )
        not_negative(self, "decay")
        if self.early > 1:
            raise TsdistillError(f"--early {self.early:g}: give a share of the steps, above 0 and at most 1")

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
    device, dtype = device_and_dtype(settings.device, settings.dtype)
    sizes = [(m, over) for m in settings.nodes for over in settings.over]
    for m, over in sizes:
        check_memory(
            training_bytes(
                len(settings.decay) * settings.seeds, settings.inputs, (m,), (m * over,), settings.outputs,
                settings.batch, samples=OBSERVED_SAMPLES, dtype=dtype,
            ),
            device,
            "--seeds, --decay, --nodes, --over or --inputs",
        )  # fmt: skip
    at = observation_steps(settings.steps, 16, settings.early_step)
    shared = {key: value for key, value in asdict(settings).items() if key not in ("nodes", "over", "device")}
    cells: list[Cell] = []
    for number, (m, over) in enumerate(sizes):
        name = f"two-layer-{m}-{over}x"

        def tell(step: int, number: int = number) -> None:
            context.tell("students", number * len(at) + at.index(step) + 1, len(at) * len(sizes))

        def make(m: int = m, over: int = over, tell: Any = tell) -> Cell:
            return cell(settings, m, over, at, tell, device, dtype)

        cells.append(cached(context.keep, name, {**shared, "nodes": m, "over": over, "at": at}, make))
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


def networks_of(settings: TwoLayer, m: int, over: int) -> tuple[Networks, Networks]:
    """Teachers and students, sorted by decay, then by seed."""
    seeds = [settings.seed * 1000 + seed for seed in range(settings.seeds)]
    dtype = getattr(torch, settings.dtype)
    teachers = [
        decaying_teachers(seeds, settings.inputs, m, settings.outputs, p, biases=settings.biases, dtype=dtype)
        for p in settings.decay
    ]
    students = random_students(
        seeds, settings.inputs, (m * over,), settings.outputs,
        scale=settings.start, biases=settings.biases, dtype=dtype,
    )  # fmt: skip
    return stacked(teachers), stacked([students] * len(settings.decay))


def cell(
    settings: TwoLayer,
    m: int,
    over: int,
    at: Sequence[int],
    tell: Any,
    device: torch.device,
    dtype: torch.dtype,
) -> Cell:
    """The figures of the students of one size: each entry is a list over decays."""
    teachers, students = (each.to(device=device) for each in networks_of(settings, m, over))
    options: dict[str, Any] = {"dtype": dtype, "device": device}
    x = GaussianSamples(2 * settings.seed + OBSERVED_DRAW, settings.inputs, **options).rows(OBSERVED_SAMPLES)
    samples = GaussianSamples(2 * settings.seed + TRAINING_DRAW, settings.inputs, **options)
    seen = train_and_record(
        students, teachers, samples, x,
        steps=settings.steps, batch=settings.batch, rate=settings.rate, at=at, tell=tell,
    )  # fmt: skip
    shape = (len(at), len(settings.decay), settings.seeds)
    matched, lost = seen.correlations.unflatten(1, shape[1:]), seen.losses.view(shape)
    best = correlations(teachers, students, x).amax(1).cpu().view(*shape[1:], -1)
    norms = fan_out_norms(students).cpu().view_as(best)
    strengths = deviations(students, x)[0].cpu().view_as(best) * norms
    recovered = (matched > RECOVERED).float()
    early = list(at).index(settings.early_step)
    small = lost[-1] < SMALL_LOSS
    return {
        "nodes": m,
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
