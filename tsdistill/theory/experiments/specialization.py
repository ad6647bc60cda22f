"""At small gradient: which students are aligned with which teacher node, and what can be pruned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tsdistill.theory.cells import kept
from tsdistill.theory.engine import (
    Fresh,
    Networks,
    best_correlations,
    correlations,
    decaying_teachers,
    drawn_students,
    energies,
    losses,
    train,
)
from tsdistill.theory.experiment import Context, Experiment
from tsdistill.theory.findings.specialization import claims_of, tables_of
from tsdistill.theory.layers.bound import implied_precision
from tsdistill.theory.layers.specialised import (
    lowest_gradients,
    net_strengths,
    observers,
    precision,
    strengths,
    without,
)
from tsdistill.theory.outcome import Outcome
from tsdistill.theory.settings import Settings, not_negative, option, positive

EVALUATED = 2048
SNAPSHOTS = 12


@dataclass(frozen=True)
class SpecializationSettings(Settings):
    """Settings of the experiment specialization."""

    dtype: str = option("float64", "precision of the networks: float32 or float64")
    networks: int = option(16, "students (each with a teacher of its own) in a cell")
    inputs: tuple[int, ...] = option((10, 20, 40), "input dimensions d")
    nodes: int = option(5, "teacher nodes m")
    outputs: int = option(10, "output dimension")
    over: tuple[int, ...] = option((1, 2, 5, 10), "over-realisation: student nodes for each teacher node")
    decay: float = option(1.0, "strength decay p: fan-out norm of teacher node j is 1/j^p")
    steps: int = option(60_000, "steps of SGD")
    batch: int = option(16, "samples a step")
    rate: float = option(0.3, "step size; a third of it for the last 30 % of the steps")
    scale: float = option(0.5, "norm of a student node's weights at the start")
    aligned: float = option(0.95, "correlation from which a student node is aligned with a teacher node")

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(
            self,
            "networks",
            "inputs",
            "nodes",
            "outputs",
            "over",
            "steps",
            "batch",
            "rate",
            "scale",
            "aligned",
        )
        not_negative(self, "decay")


def run(settings: SpecializationSettings, context: Context) -> Outcome:
    """Train a cell for every input dimension and over-realisation, and measure what the theorems say."""
    cells = []
    pairs = [(inputs, over) for inputs in settings.inputs for over in settings.over]
    for done, (inputs, over) in enumerate(pairs):
        context.tell(f"d = {inputs}, {over}x", done, len(pairs))
        cells.append(
            kept(context.keep, _key(settings, inputs, over), lambda d=inputs, o=over: cell(settings, d, o))
        )
    context.tell("done", len(pairs), len(pairs))
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


def _key(settings: SpecializationSettings, inputs: int, over: int) -> dict[str, Any]:
    shared = {
        name: value for name, value in vars(settings).items() if name not in ("inputs", "over", "device")
    }
    return {"what": "specialization", **shared, "d": inputs, "x": over}


def cell(settings: SpecializationSettings, inputs: int, over: int) -> dict[str, Any]:
    """One cell: its numbers at snapshots in training, and node by node at the end."""
    dtype = getattr(torch, settings.dtype)
    seeds = range(1000 * settings.seed, 1000 * settings.seed + settings.networks)
    width = over * settings.nodes
    teachers = decaying_teachers(seeds, inputs, settings.nodes, settings.outputs, settings.decay, dtype=dtype)
    students = drawn_students(seeds, inputs, (width,), settings.outputs, scale=settings.scale, dtype=dtype)
    teachers, students = teachers.to(device=settings.device), students.to(device=settings.device)
    where: dict[str, Any] = {"dtype": dtype, "device": settings.device}
    x = Fresh(10_000 + settings.seed, inputs, **where).rows(EVALUATED)
    snapshots: list[dict[str, Any]] = []
    at = sorted({round(settings.steps ** (k / SNAPSHOTS)) for k in range(SNAPSHOTS + 1)} | {settings.steps})
    train(
        students,
        teachers,
        Fresh(settings.seed, inputs, **where),
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
        "energy": _plain(energies(teachers, x)),
        "snapshots": snapshots,
        "end": _end(teachers, students, x, settings.aligned),
    }


def _snapshot(step: int, teachers: Networks, students: Networks, x: Tensor) -> dict[str, Any]:
    largest, _ = lowest_gradients(teachers, students, x)
    _, alpha = observers(teachers, students, x)
    nodes = teachers.widths[0] + students.widths[0]
    implied = implied_precision(largest[:, None], alpha, nodes, students.inputs + 1)
    return {
        "step": step,
        "loss": _plain(losses(teachers, students, x)),
        "gradient": _plain(largest),
        "precision": _plain(precision(teachers, students)),
        "alpha": _plain(alpha),
        "implied": _plain(implied.clamp_max(1e9)),
    }


def _end(teachers: Networks, students: Networks, x: Tensor, aligned: float) -> dict[str, Any]:
    """Nodes at the end of the training, and what their leaving costs."""
    _, ratio = lowest_gradients(teachers, students, x)
    who, _ = observers(teachers, students, x)
    found, best = best_correlations(teachers, students, x)
    strong = strengths(students, x)
    other = best < aligned
    energy = energies(teachers, x)
    order = torch.where(other, torch.inf, strong).argsort(1).argsort(1)
    instead = (order < other.sum(1, keepdim=True)) & ~other
    return {
        "left": _plain(ratio.quantile(0.95, dim=1)),
        "students": _each(teachers, students, x, aligned),
        "found": _plain(found),
        "observers": who.sum(2).tolist(),
        "best": _plain(best),
        "strength": _plain(strong),
        "net": _plain(net_strengths(students, x)),
        "aligned": (~other).int().tolist(),
        "loss": _plain(losses(teachers, students, x) / energy),
        "without": _plain(losses(teachers, without(students, other), x) / energy),
        "instead": _plain(losses(teachers, without(students, instead), x) / energy),
        "moved": _plain(losses(without(students, other), students, x) / energy),
    }


def _each(teachers: Networks, students: Networks, x: Tensor, aligned: float) -> list[list[int]]:
    """Number of students aligned with each teacher node (each counts for its best one) ``[S, m]``."""
    every = correlations(teachers, students, x)
    first = every == every.amax(1, keepdim=True)
    return ((every >= aligned) & first).sum(2).tolist()


def _plain(values: Tensor) -> Any:
    """Lists of numbers with five digits."""
    rounded = [float(f"{value:.4e}") for value in values.flatten().tolist()]
    if values.ndim < 2:
        return rounded
    width = values.shape[1]
    return [rounded[start : start + width] for start in range(0, len(rounded), width)]


EXPERIMENT = Experiment(
    settings=SpecializationSettings,
    quick={"networks": 6, "inputs": (10, 20), "over": (1, 2, 5), "steps": 10_000},
    run=run,
)
