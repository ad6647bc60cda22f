"""Several nodes from nearly equal starts: the symmetry breaks, and each aligns with a teacher node."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tsdistill.lab.experiments.population.study import PopulationGradient, four_decimals
from tsdistill.lab.gaussian.critical_points import critical_point, symmetric_saddle, symmetric_students
from tsdistill.lab.gaussian.expected_loss import expected_loss
from tsdistill.lab.gaussian.gradient_flow import gradient_flow
from tsdistill.lab.results import Claim, Outcome, Table

PAPER = "arXiv 1703.00560"
START = 0.1
"""Each weight of the common start: small beside the teacher's, which are 0 and 1."""
APART = 0.1
"""Distance of a coordinate from the students' mean from which on the symmetry counts as broken: far above
every perturbation, far below the distance of two teacher nodes."""
ALIGNED = 0.99
"""Cosine from which on a student counts as aligned with a teacher node."""
LAST = 600.0
"""Time at which the flow ends, at least: so long that what has not converged is at another critical point."""


def study(settings: PopulationGradient) -> Outcome:
    """Final assignment and time, for each number of nodes and size of the perturbation."""
    runs = [_broken(count, settings) for count in settings.symmetric]
    cells = [cell for run in runs for cell in run["cells"]]
    worst = min(cells, key=lambda cell: cell["found"])
    by_count = ", ".join(f"K = {run['nodes']}: {run['found']:.0%}" for run in runs)
    traps = sum(run["minima"] for run in runs)
    missed = sum(run["missed"] for run in runs)
    slopes = ", ".join(
        f"K = {run['nodes']}: {run['slope']:.3f} against {1 / run['rate']:.3f}" for run in runs
    )
    timed = len(settings.perturbations) > 1
    claims = (
        Claim(
            "However small what breaks the symmetry, each student finds a teacher node of its own.",
            f"{PAPER}, several nodes; the talk",
            f"random perturbations of a common start, {settings.repeats} for each of "
            f"{len(settings.perturbations)} sizes, that end with one student on every teacher node: "
            f"{by_count}; lowest cell {worst['found']:.0%} (K = {worst['nodes']}, ε = {worst['size']:g}); "
            f"of {missed} that did not, {traps} ended at local minima (95 % in every cell asked)",
            worst["found"] >= 0.95,
        ),
        Claim(
            "The time that it takes grows with log 1/ε only, at the rate of the saddle's steepest direction.",
            "linearisation at the saddle of arXiv 1703.00560 (ours)",
            f"slope of the time against ln 1/ε, against 1/λ: {slopes} (15 % allowed)"
            if timed
            else "one size only",
            all(abs(run["slope"] * run["rate"] - 1) < 0.15 for run in runs) if timed else None,
        ),
    )
    columns = ("K", "ε", "one student each", "loss, median", "time to break")
    rows = tuple(
        (
            cell["nodes"],
            f"{cell['size']:.0e}",
            f"{cell['found']:.2f}",
            f"{cell['loss']:.1e}",
            f"{cell['time']:.2f}",
        )
        for cell in cells
    )
    table = Table(f"Symmetry breaking, {settings.repeats} perturbations each", columns, rows)
    note = (
        "The theorem speaks of perturbations that keep the students permutations of one another; random ones "
        "are harder: from K = 6 on the loss has local minima besides the teachers (Safran and Shamir, arXiv "
        "1712.08968)."
    )
    return Outcome("", {}, claims, (table,), {"symmetry": {"runs": runs, "shown": _shown(settings)}}, (note,))


def _broken(count: int, settings: PopulationGradient) -> dict[str, Any]:
    teachers = torch.eye(count, dtype=torch.float64)
    rate = -float(critical_point(_merged(count), teachers).curvatures[0])
    generator = torch.Generator().manual_seed(settings.seed + 10 + count)
    shape = (len(settings.perturbations), settings.repeats, count, count)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    sizes = torch.tensor(settings.perturbations, dtype=torch.float64).view(-1, 1, 1, 1)
    start = (START + sizes * noise).flatten(0, 1)
    window = (math.log(1 / min(settings.perturbations)) + 6) / rate
    times = [window * step / 120 for step in range(1, 121)]
    path = gradient_flow(start, teachers, [*times, max(LAST, 2 * window)])
    spread = (path - path.mean(2, keepdim=True)).abs().flatten(2).amax(2)
    taken = torch.tensor(times)[(spread[:-1] > APART).to(torch.uint8).argmax(0)].view(shape[:2])
    end = path[-1]
    loss = expected_loss(end, teachers).view(shape[:2])
    assigned = _assigned(end).view(shape[:2])
    missed = end[~assigned.flatten()]
    known = [critical_point(each, teachers) for each in missed]
    cells = [
        {
            "nodes": count,
            "size": size,
            "found": float(assigned[place].double().mean()),
            "loss": float(loss[place].median()),
            "time": float(taken[place].median()),
        }
        for place, size in enumerate(settings.perturbations)
    ]
    return {
        "nodes": count,
        "rate": rate,
        "cells": cells,
        "slope": _slope([math.log(1 / cell["size"]) for cell in cells], [cell["time"] for cell in cells]),
        "found": float(assigned.double().mean()),
        "missed": len(missed),
        "minima": sum(each.gradient < 1e-5 and each.kind() == "minimum" for each in known),
    }


def _merged(count: int) -> Tensor:
    return symmetric_students(torch.full((2,), symmetric_saddle(count), dtype=torch.float64), count)


def _assigned(students: Tensor) -> Tensor:
    """Whether every teacher node (row of the identity) has exactly one student aligned with it, ``[S]``."""
    aligned = torch.nn.functional.normalize(students, dim=-1) > ALIGNED
    return (aligned.sum(-1) == 1).all(-1) & (aligned.sum(-2) == 1).all(-1)


def _slope(across: list[float], up: list[float]) -> float:
    middle, height = sum(across) / len(across), sum(up) / len(up)
    spread = sum((x - middle) ** 2 for x in across)
    if not spread:
        return 0.0
    return sum((x - middle) * (y - height) for x, y in zip(across, up, strict=True)) / spread


def _shown(settings: PopulationGradient) -> dict[str, Any]:
    """One run of five nodes: cosine of every student with every teacher node, and the loss, over time."""
    count, size = 5, 1e-4
    teachers = torch.eye(count, dtype=torch.float64)
    generator = torch.Generator().manual_seed(settings.seed)
    noise = torch.randn(1, count, count, generator=generator, dtype=torch.float64)
    times = [0.6 * step for step in range(1, 101)]
    path = gradient_flow(START + size * noise, teachers, times)[:, 0]
    cosine = torch.nn.functional.normalize(path, dim=-1)
    loss = expected_loss(path, teachers).clamp_min(1e-16)
    return {
        "nodes": count,
        "size": size,
        "times": times,
        "cosine": four_decimals(cosine),
        "loss": [float(f"{value:.4g}") for value in loss],
        "saddle_loss": float(expected_loss(_merged(count), teachers)),
    }
