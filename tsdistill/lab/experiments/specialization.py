"""Students at small gradient: their alignment with teacher nodes, and the nodes that can be pruned."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tsdistill.lab.engine import (
    GaussianSamples,
    Networks,
    best_correlations,
    cached,
    check_memory,
    correlations,
    decaying_teachers,
    device_and_dtype,
    energies,
    losses,
    observation_steps,
    random_students,
    train,
    training_bytes,
)
from tsdistill.lab.engine.node_statistics import rounded
from tsdistill.lab.experiment import Context, Experiment, Settings, not_negative, option, positive
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

EVALUATION_SAMPLES = 2048
"""Samples on which nodes and losses are measured."""
SNAPSHOTS = 13
"""About how many times students are measured while they are trained."""


@dataclass(frozen=True)
class Specialization(Settings):
    """The settings of specialization."""

    dtype: str = option("float64", "precision of the networks: float32 or float64")
    seeds: int = option(12, "teachers and students drawn for each cell")
    inputs: tuple[int, ...] = option((10, 20, 40), "input dimensions d")
    nodes: int = option(5, "teacher nodes m")
    outputs: int = option(10, "output dimension")
    over: tuple[int, ...] = option((1, 2, 5, 10), "over-realisation: student nodes for each teacher node")
    decay: float = option(1.0, "strength decay p: fan-out norm of teacher node j is 1/j^p")
    steps: int = option(60_000, "steps of SGD")
    batch: int = option(16, "samples a step")
    rate: float = option(0.3, "step size; a third of it for the last 30 % of the steps")
    start: float = option(0.5, "norm of a student node's weights at the start")
    aligned: float = option(0.9, "correlation from which a student node is aligned with a teacher node")

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(
            self, "seeds", "inputs", "nodes", "outputs", "over", "steps", "batch", "rate", "start", "aligned"
        )
        not_negative(self, "decay")


def run(settings: Specialization, context: Context) -> Outcome:
    """Train a cell for every input dimension and over-realisation, and measure the theorems' quantities."""
    device, dtype = device_and_dtype(settings.device, settings.dtype)
    pairs = [(inputs, over) for inputs in settings.inputs for over in settings.over]
    for inputs, over in pairs:
        m = settings.nodes
        check_memory(
            training_bytes(
                settings.seeds, inputs, (m,), (m * over,), settings.outputs, settings.batch,
                samples=EVALUATION_SAMPLES, dtype=dtype,
            ),
            device,
            "--seeds, --nodes, --over or --inputs",
        )  # fmt: skip
    shared = {
        name: value for name, value in asdict(settings).items() if name not in ("inputs", "over", "device")
    }
    cells = []
    for done, (inputs, over) in enumerate(pairs):
        context.tell("students", done, len(pairs))

        def make(inputs: int = inputs, over: int = over) -> dict[str, Any]:
            return cell(settings, inputs, over, device, dtype)

        key = {**shared, "inputs": inputs, "over": over}
        cells.append(cached(context.keep, f"specialization-{inputs}-{over}x", key, make))
    context.tell("students", len(pairs), len(pairs))
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


def cell(
    settings: Specialization, inputs: int, over: int, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """One cell: its numbers at snapshots in training, and node by node at the end."""
    seeds = range(1000 * settings.seed, 1000 * settings.seed + settings.seeds)
    width = over * settings.nodes
    teachers = decaying_teachers(seeds, inputs, settings.nodes, settings.outputs, settings.decay, dtype=dtype)
    students = random_students(seeds, inputs, (width,), settings.outputs, scale=settings.start, dtype=dtype)
    teachers, students = teachers.to(device=device), students.to(device=device)
    where: dict[str, Any] = {"dtype": dtype, "device": device}
    x = GaussianSamples(10_000 + settings.seed, inputs, **where).rows(EVALUATION_SAMPLES)
    snapshots: list[dict[str, Any]] = []
    at = observation_steps(settings.steps, SNAPSHOTS)
    train(
        students,
        teachers,
        GaussianSamples(settings.seed, inputs, **where),
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
        "energy": rounded(energies(teachers, x)),
        "snapshots": snapshots,
        "end": _end(teachers, students, x, settings.aligned),
    }


def _snapshot(step: int, teachers: Networks, students: Networks, x: Tensor) -> dict[str, Any]:
    largest, _ = lowest_gradients(teachers, students, x)
    _, alpha = observer_mask(teachers, students, x)
    return {
        "step": step,
        "loss": rounded(losses(teachers, students, x)),
        "gradient": rounded(largest),
        "precision": rounded(recovery_precision(teachers, students)),
        "alpha": rounded(alpha),
    }


def _end(teachers: Networks, students: Networks, x: Tensor, aligned: float) -> dict[str, Any]:
    """Nodes at the end of the training, and the loss without them."""
    _, ratio = lowest_gradients(teachers, students, x)
    who, _ = observer_mask(teachers, students, x)
    matched, best = best_correlations(teachers, students, x)
    strong = node_strengths(students, x)
    other = best < aligned
    energy = energies(teachers, x)
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
        "loss": rounded(losses(teachers, students, x) / energy),
        "without": rounded(losses(teachers, without_fan_out(students, other), x) / energy),
        "instead": rounded(losses(teachers, without_fan_out(students, instead), x) / energy),
        "moved": rounded(losses(without_fan_out(students, other), students, x) / energy),
    }


def _each(teachers: Networks, students: Networks, x: Tensor, aligned: float) -> list[list[int]]:
    """Number of students aligned with each teacher node (each counts for its best one) ``[S, m]``."""
    every = correlations(teachers, students, x)
    first = every == every.amax(1, keepdim=True)
    return ((every >= aligned) & first).sum(2).tolist()


EXPERIMENT = Experiment(
    settings=Specialization,
    quick={"seeds": 6, "inputs": (10, 20), "over": (1, 2, 5), "steps": 10_000},
    run=run,
)
