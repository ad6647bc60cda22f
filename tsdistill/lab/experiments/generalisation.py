"""Over many runs: does alignment on the training inputs predict what happens on other inputs?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tsdistill.lab.engine import (
    Finite,
    Fresh,
    Networks,
    best_correlations,
    check_room,
    decaying_teachers,
    drawn_students,
    energies,
    generator_of,
    kept,
    losses,
    place,
    train,
    training_bytes,
)
from tsdistill.lab.engine.summing import rounded
from tsdistill.lab.experiment import Context, Experiment
from tsdistill.lab.experiments.findings.generalisation import claims_of, tables_of
from tsdistill.lab.layers.specialised import precision
from tsdistill.lab.outcome import Outcome
from tsdistill.lab.settings import Settings, not_negative, option, positive

EVALUATED = 4096
DRAWN, WATCHED, SHIFTED = 21, 22, 23
Cell = dict[str, Any]


@dataclass(frozen=True)
class Generalisation(Settings):
    """Runs that differ in samples, width and seed."""

    seeds: int = option(24, "teachers and students drawn for each cell")
    inputs: int = option(20, "input dimension d")
    nodes: int = option(5, "teacher nodes m")
    outputs: int = option(10, "output dimension")
    samples: tuple[int, ...] = option((50, 100, 200, 400, 1000), "training samples N")
    over: tuple[int, ...] = option((1, 2, 5, 10), "over-realisation: student nodes for each teacher node")
    decay: float = option(1.0, "strength decay p: fan-out norm of teacher node j is 1/j^p")
    steps: int = option(30_000, "steps of SGD")
    batch: int = option(16, "samples a step")
    rate: float = option(0.1, "step size")
    start: float = option(0.5, "norm of a student node's weights at the start")

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(
            self, "seeds", "inputs", "nodes", "outputs", "samples", "over", "steps", "batch", "rate", "start"
        )
        not_negative(self, "decay")


def run(settings: Generalisation, context: Context) -> Outcome:
    """Train a cell for every number of samples and over-realisation, and correlate over all runs.

    Raises:
        TsdistillError: the largest stack does not fit into memory.
    """
    device, dtype = place(settings.device, settings.dtype)
    check_room(
        training_bytes(
            settings.seeds, settings.inputs, (settings.nodes,), (settings.nodes * max(settings.over),),
            settings.outputs, settings.batch, samples=EVALUATED, own=True, dtype=dtype,
        ),
        device,
        "--seeds, --over or --nodes",
    )  # fmt: skip
    pairs = [(samples, over) for samples in settings.samples for over in settings.over]
    shared = {k: v for k, v in asdict(settings).items() if k not in ("samples", "over", "device")}
    cells = []
    for done, (samples, over) in enumerate(pairs):
        context.tell("students", done, len(pairs))

        def make(samples: int = samples, over: int = over) -> Cell:
            return cell(settings, samples, over, device, dtype)

        key = {**shared, "samples": samples, "over": over}
        cells.append(kept(context.keep, f"generalisation-{samples}-{over}x", key, make))
    context.tell("students", len(pairs), len(pairs))
    return Outcome(
        "generalisation",
        {},
        claims_of(cells),
        tables_of(cells),
        {"cells": cells},
        (
            "alignment: mean over teacher nodes of the best correlation with a student node, training inputs",
            "shifted inputs: " + ", ".join(f"{name} ({text})" for name, (text, _) in SHIFTS.items()),
            "agreement: share of inputs on which the largest output is the teacher's",
        ),
    )


def _apart(x: Tensor, generator: torch.Generator) -> Tensor:
    direction = torch.randn(x.shape[1], generator=generator).to(x)
    return x + 2 * direction / direction.norm()


def _uneven(x: Tensor, generator: torch.Generator) -> Tensor:
    spread = torch.linspace(0.2, 2, x.shape[1])[torch.randperm(x.shape[1], generator=generator)]
    return x * spread.to(x)


def _heavy(x: Tensor, generator: torch.Generator) -> Tensor:
    freedom = 3
    chi = torch.randn(len(x), freedom, generator=generator).square().sum(1, keepdim=True)
    return x * (freedom / chi).sqrt().to(x)


SHIFTS: dict[str, tuple[str, Callable[[Tensor, torch.Generator], Tensor]]] = {
    "wider": ("x times 2", lambda x, generator: 2 * x),
    "moved": ("x plus a vector of norm 2", _apart),
    "uneven": ("coordinates times 0.2 to 2", _uneven),
    "heavy": ("a t distribution with 3 degrees of freedom", _heavy),
}
"""Kinds of shifted inputs: in words, and how they are made of Gaussian ones."""


def cell(settings: Generalisation, samples: int, over: int, device: torch.device, dtype: torch.dtype) -> Cell:
    """Runs of one number of samples and width."""
    seeds = range(1000 * settings.seed, 1000 * settings.seed + settings.seeds)
    teachers = decaying_teachers(
        seeds, settings.inputs, settings.nodes, settings.outputs, settings.decay, dtype=dtype
    ).to(device=device)
    students = drawn_students(
        seeds, settings.inputs, (settings.nodes * over,), settings.outputs, scale=settings.start, dtype=dtype
    ).to(device=device)
    options: dict[str, Any] = {"dtype": dtype, "device": device}
    draw = Fresh(DRAWN + settings.seed, settings.inputs, networks=settings.seeds, **options)
    x = draw.rows(samples)
    train(
        students,
        teachers,
        Finite(x, settings.seed),
        steps=settings.steps,
        batch=settings.batch,
        rate=lambda step: settings.rate * (1 if step < 0.7 * settings.steps else 0.3),
    )
    fresh = Fresh(WATCHED + settings.seed, settings.inputs, **options).rows(EVALUATED)
    found, _ = best_correlations(teachers, students, x)
    result = {
        "samples": samples,
        "over": over,
        "alignment": rounded(found.double().mean(1), 9),
        "precision": rounded(precision(teachers, students).mean(1)),
        "training": rounded(losses(teachers, students, x) / energies(teachers, x)),
        "evaluation": rounded(losses(teachers, students, fresh) / energies(teachers, fresh)),
        "agreement": rounded(_agreement(teachers, students, fresh)),
        "shifted": {},
    }
    for name, (_, shift) in SHIFTS.items():
        moved = shift(fresh, generator_of(SHIFTED, settings.seed))
        result["shifted"][name] = {
            "loss": rounded(losses(teachers, students, moved) / energies(teachers, moved)),
            "agreement": rounded(_agreement(teachers, students, moved)),
        }
    return result


def _agreement(teachers: Networks, students: Networks, x: Tensor) -> Tensor:
    """Share of samples whose largest output is the same one ``[S]``."""
    return torch.stack(
        [
            (teachers.some([s])(x)[0].argmax(1) == students.some([s])(x)[0].argmax(1)).double().mean()
            for s in range(students.count)
        ]
    )


EXPERIMENT = Experiment(
    settings=Generalisation,
    quick={"seeds": 8, "samples": (50, 100, 200, 1000), "over": (1, 2, 5), "steps": 6000},
    run=run,
)
