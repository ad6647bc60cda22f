"""Students at small gradient: their alignment with teacher nodes, and the nodes that can be pruned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tsdistill.lab import engine
from tsdistill.lab.engine.node_statistics import rounded
from tsdistill.lab.experiment import Context, Experiment, SweepSettings
from tsdistill.lab.experiments.specialization_claims import claims_of, tables_of
from tsdistill.lab.layers.theorem_quantities import (
    lowest_gradients,
    net_strengths,
    node_strengths,
    observer_mask,
    recovery_precision,
    without_fan_out,
)
from tsdistill.lab.results import Outcome
from tsdistill.options.option_fields import option

EVALUATION_SAMPLES = 2048
"""Samples on which nodes and losses are measured, as many as in `engine.node_statistics`."""
SNAPSHOTS = 13
"""About how many times students are measured while they are trained."""


@dataclass(frozen=True)
class Specialization(SweepSettings):
    """The settings of specialization."""

    dtype: str = "float64"
    seeds: int = option(12, "Teachers and students drawn for each cell", above=0)
    inputs: tuple[int, ...] = option((10, 20, 40), "Dimensions d of the Gaussian input", above=0)
    steps: int = 60_000
    rate: float = option(0.3, "Step size; a third of it for the last 30 % of the steps", above=0)
    aligned: float = option(
        0.9, "Correlation from which a student node is aligned with a teacher node", above=0
    )


def run(settings: Specialization, context: Context) -> Outcome:
    """Train a cell for every input dimension and over-realisation, and measure the theorems' quantities."""
    where = engine.training_device(
        settings, settings.seeds, max(settings.inputs), (settings.nodes,),
        (settings.nodes * max(settings.over),), samples=EVALUATION_SAMPLES,
        reduce="--seeds, --nodes, --over or --inputs",
    )  # fmt: skip
    sizes = [{"inputs": inputs, "over": over} for inputs in settings.inputs for over in settings.over]
    cells = engine.sweep(
        context, "specialization", settings.key("inputs", "over"), sizes,
        lambda _, inputs, over: _cell(settings, inputs, over, where),
    )  # fmt: skip
    return Outcome(
        name="specialization",
        settings={},
        claims=claims_of(cells),
        tables=tables_of(cells),
        data={"cells": cells, "aligned": settings.aligned, "nodes": settings.nodes},
        notes=(
            "aligned: by correlation of activations; a student node whose boundary is a teacher node's but "
            "which is active on the other side is not counted, and may keep fan-out",
        ),
    )


def _cell(settings: Specialization, inputs: int, over: int, where: Mapping[str, Any]) -> dict[str, Any]:
    """One cell: its numbers at snapshots in training, and node by node at the end."""
    seeds = range(1000 * settings.seed, 1000 * settings.seed + settings.seeds)
    m, width, c = settings.nodes, over * settings.nodes, settings.outputs
    teachers = engine.decaying_teachers(seeds, inputs, m, c, settings.decay, **where)
    students = engine.random_students(seeds, inputs, (width,), c, scale=settings.start, **where)
    x = engine.GaussianSamples(10_000 + settings.seed, inputs, **where).rows(EVALUATION_SAMPLES)
    snapshots: list[dict[str, Any]] = []
    at = engine.observation_steps(settings.steps, SNAPSHOTS)
    engine.train(
        students,
        teachers,
        engine.GaussianSamples(settings.seed, inputs, **where),
        steps=settings.steps,
        batch=settings.batch,
        rate=lambda step: settings.rate * (1 if step < 0.7 * settings.steps else 1 / 3),
        record=lambda step, now: snapshots.append(_snapshot(step, teachers, now, x)),
        at=at,
    )
    return {
        "d": inputs,
        "over": over,
        "K": width + settings.nodes,
        "energy": rounded(engine.energies(teachers, x)),
        "snapshots": snapshots,
        "end": _end(teachers, students, x, settings.aligned),
    }


def _snapshot(step: int, teachers: engine.Networks, students: engine.Networks, x: Tensor) -> dict[str, Any]:
    largest, _ = lowest_gradients(teachers, students, x)
    _, alpha = observer_mask(teachers, students, x)
    return {
        "step": step,
        "loss": rounded(engine.losses(teachers, students, x)),
        "gradient": rounded(largest),
        "precision": rounded(recovery_precision(teachers, students)),
        "alpha": rounded(alpha),
    }


def _end(teachers: engine.Networks, students: engine.Networks, x: Tensor, aligned: float) -> dict[str, Any]:
    """Nodes at the end of the training, and the loss without them."""
    _, ratio = lowest_gradients(teachers, students, x)
    who, _ = observer_mask(teachers, students, x)
    matched, best = engine.best_correlations(teachers, students, x)
    strong = node_strengths(students, x)
    other = best < aligned
    energy = engine.energies(teachers, x)
    order = torch.where(other, torch.inf, strong).argsort(1).argsort(1)
    instead = (order < other.sum(1, keepdim=True)) & ~other
    return {
        "left": rounded(ratio.quantile(0.95, dim=1)),
        "students": _each(teachers, students, x, aligned),
        "found": rounded(matched),
        "observers": who.sum(2).tolist(),
        "best": rounded(best),
        "strength": rounded(strong),
        "net": rounded(net_strengths(students, x)),
        "aligned": (~other).int().tolist(),
        "loss": rounded(engine.losses(teachers, students, x) / energy),
        "without": rounded(engine.losses(teachers, without_fan_out(students, other), x) / energy),
        "instead": rounded(engine.losses(teachers, without_fan_out(students, instead), x) / energy),
        "moved": rounded(engine.losses(without_fan_out(students, other), students, x) / energy),
    }


def _each(teachers: engine.Networks, students: engine.Networks, x: Tensor, aligned: float) -> list[list[int]]:
    """Number of students aligned with each teacher node (each counts for its best one) ``[S, m]``."""
    every = engine.correlations(teachers, students, x)
    first = every == every.amax(1, keepdim=True)
    return ((every >= aligned) & first).sum(2).tolist()


EXPERIMENT = Experiment(
    settings=Specialization,
    quick={"seeds": 6, "inputs": (10, 20), "over": (1, 2, 5), "steps": 10_000},
    run=run,
)
