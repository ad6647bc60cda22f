"""One node: guaranteed and observed convergence, by standard deviation of the start and dimension."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tsdistill.lab.experiments.population.study import PopulationGradient, four_decimals
from tsdistill.lab.gaussian.convergence_region import (
    ball_probability,
    ball_radius,
    flow_distances,
    gaussian_probability,
    in_guaranteed_region,
    plane_coordinates,
    sgd_end,
)
from tsdistill.lab.gaussian.expected_loss import velocity
from tsdistill.lab.gaussian.gradient_flow import gradient_flow
from tsdistill.lab.results import Claim, Outcome, Table

PAPER = "arXiv 1703.00560"
EPSILONS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""ε of the theorem on random starts, which takes values between 0 and 1."""
NEAR = 0.01
"""Distance to w*, in lengths of it, below which a start counts as converged;
from there on the distance only falls."""
BATCH = 64
"""Samples of a step of SGD: a common batch, whose noise is not negligible."""


def study(settings: PopulationGradient) -> Outcome:
    """The guaranteed region, its probability, and the observed convergence inside and outside of it."""
    generator = torch.Generator().manual_seed(settings.seed + 1)
    grid = _grid(settings, generator)
    balls = [_ball(dimension, epsilon) for dimension in settings.dimensions for epsilon in EPSILONS]
    plane = _plane()
    region = _region(settings, generator)
    margin = min(item["chance"] - item["promised"] for item in balls)
    lowest = min(grid, key=lambda item: item["observed"])
    noisy = min(grid, key=lambda item: item["descent"])
    wide = _gaussian(settings.dimensions)
    claims = (
        Claim(
            "Wherever ‖w − w*‖ < ‖w*‖, the distance to w* falls, and w* is reached.",
            f"{PAPER}, one node (Lyapunov function)",
            f"d/dt ‖w − w*‖² is negative at all {region['points']} points of a grid of the region and "
            f"{region['reached']:.1%} of {region['starts']} random starts in it end within {NEAR} of w*",
            region["rising"] == 0 and region["reached"] == 1,
        ),
        Claim(
            "A start uniform in the ball of radius ε √(2π/(d + 1)) ‖w*‖ is in that region with "
            "probability at least (1 − ε)/2.",
            f"{PAPER}, one node (random starts)",
            f"exact probability less (1 − ε)/2, over d = {settings.dimensions[0]} to "
            f"{settings.dimensions[-1]} and ε = 0.1 to 0.9: at least {margin:+.4f}",
            margin >= 0,
        ),
        Claim(
            "One node from a random start of standard deviation O(ε/√d) reaches w* with probability at "
            "least (1 − ε)/2.",
            f"{PAPER}, abstract; the talk",
            f"σ = ε/√d per coordinate, ε = 0.5: {wide['observed']:.1%} observed at every d (0.25 promised) "
            f"— but at d = {wide['dimension']} only {wide['each']:.2g} start in the guaranteed region: the "
            "argument carries the length of the start to O(ε/√d), a coordinate to σ = ε √(2π)/d "
            f"({wide['length']:.2f} start in it)",
            wide["observed"] >= 0.25,
        ),
        Claim(
            "The guarantee is a lower bound: what is observed is no less.",
            f"{PAPER}, one node",
            f"gradient flow to t = {settings.time:g}: at least {lowest['observed']:.1%} converge (d = "
            f"{lowest['dimension']}, σ = {lowest['deviation']:g}); SGD on samples for as long: at least "
            f"{noisy['descent']:.1%}; the region promises at most "
            f"{max(item['promised'] for item in grid):.1%}",
            all(min(item["observed"], item["descent"]) >= item["promised"] - 0.05 for item in grid),
        ),
    )
    rows = tuple(
        (
            item["dimension"],
            item["deviation"],
            f"{item['promised']:.3g}",
            f"{item['observed']:.3f}",
            f"{item['descent']:.3f}",
            None if item["median"] is None else f"{item['median']:.1f}",
        )
        for item in grid
    )
    columns = ("d", "σ / ‖w*‖", "start in the region", "flow converges", "SGD converges", "median time")
    table = Table(f"One node, {settings.starts} Gaussian starts each", columns, rows)
    note = (
        "The flow of one node turns towards w* at the rate (π − θ) ‖w*‖ sin θ / (2π ‖w‖) from any angle "
        "below π and its norm follows ‖w*‖ (sin θ + (π − θ) cos θ)/π > 0, so almost every start converges; "
        "what the start decides is the time."
    )
    return Outcome("", {}, claims, (table,), {"grid": grid, "balls": balls, "plane": plane}, (note,))


def _starts(
    count: int, dimension: int, deviation: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    teacher = torch.zeros(dimension, dtype=torch.float64)
    teacher[0] = 1
    return deviation * torch.randn(count, dimension, generator=generator, dtype=torch.float64), teacher


def _grid(settings: PopulationGradient, generator: torch.Generator) -> list[dict[str, Any]]:
    """Every dimension and standard deviation; all flows are solved together, in their planes."""
    cells: list[dict[str, Any]] = []
    starts = []
    for dimension in settings.dimensions:
        for deviation in settings.deviations:
            students, teacher = _starts(settings.starts, dimension, deviation, generator)
            after, steps = sgd_end(students, teacher, settings.time, BATCH, generator)
            starts.append(plane_coordinates(students, teacher))
            cells.append(
                {
                    "dimension": dimension,
                    "deviation": deviation,
                    "promised": gaussian_probability(dimension, deviation),
                    "descent": float(((after - teacher).norm(dim=1) < NEAR).double().mean()),
                    "steps": steps,
                }
            )
    times = torch.tensor([settings.time * (step / 40) ** 1.5 for step in range(1, 41)])
    near = (flow_distances(torch.cat(starts), times.tolist()) < NEAR).view(len(times), len(cells), -1)
    for place, cell in enumerate(cells):
        reached = near[:, place]
        cell["observed"] = float(reached[-1].double().mean())
        first = times[reached.to(torch.uint8).argmax(0)]
        first[~reached[-1]] = float("inf")
        median = float(first.median())
        cell["median"] = median if math.isfinite(median) else None
    return cells


def _ball(dimension: int, epsilon: float) -> dict[str, float]:
    reach = ball_radius(epsilon, dimension)
    return {
        "dimension": dimension,
        "epsilon": epsilon,
        "chance": ball_probability(dimension, reach),
        "promised": (1 - epsilon) / 2,
    }


def _gaussian(dimensions: tuple[int, ...]) -> dict[str, float]:
    """What σ = ε/√d means for a coordinate and for the length, ε = ½, at the largest d."""
    largest, epsilon = max(dimensions), 0.5
    generator = torch.Generator().manual_seed(1)
    drawn = [_starts(400, each, epsilon / math.sqrt(each), generator) for each in dimensions]
    close = flow_distances(torch.cat([plane_coordinates(*pair) for pair in drawn]), [60.0])[-1] < NEAR
    observed = float(close.view(len(dimensions), -1).double().mean(1).min())
    return {
        "dimension": largest,
        "observed": observed,
        "each": gaussian_probability(largest, epsilon / math.sqrt(largest)),
        "length": gaussian_probability(largest, epsilon * math.sqrt(2 * math.pi) / largest),
    }


def _region(settings: PopulationGradient, generator: torch.Generator) -> dict[str, Any]:
    goal = torch.tensor([1.0, 0.0], dtype=torch.float64)
    side = torch.linspace(-0.02, 2.02, 205, dtype=torch.float64)
    points = torch.cartesian_prod(side, side.abs())
    points = points[in_guaranteed_region(points, goal) & ((points - goal).norm(dim=1) > 1e-3)]
    rate = ((points - goal) * velocity(points.unsqueeze(1), goal.unsqueeze(0)).total[:, 0]).sum(1)
    students, teacher = _starts(4 * settings.starts, settings.dimensions[0], 1.0, generator)
    students = students[in_guaranteed_region(students, teacher)]
    reached = flow_distances(plane_coordinates(students, teacher), [settings.time])[-1] < NEAR
    return {
        "points": len(points),
        "rising": int((rate >= 0).sum()),
        "starts": len(students),
        "reached": float(reached.double().mean()),
    }


def _plane() -> dict[str, Any]:
    """The flow in the plane of w and w*: a grid of velocities, and paths of the whole and the linear part."""
    goal = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    across, up = (torch.linspace(*ends, 33, dtype=torch.float64) for ends in ((-1.6, 2.4), (-1.6, 1.6)))
    points = torch.stack(torch.meshgrid(across, up, indexing="xy"), -1)
    field = velocity(points.unsqueeze(-2), goal).total[..., 0, :]
    rising = ((points - goal[0]) * field).sum(-1)
    angle = torch.linspace(0.12, 2 * math.pi - 0.12, 14, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    start = torch.cat([0.15 * circle, 1.45 * circle]).unsqueeze(1)
    times = [0.05 * 1.25**step for step in range(32)]
    whole, linear = (gradient_flow(start, goal, times, linear=alone) for alone in (False, True))
    return {
        "across": across.tolist(),
        "up": up.tolist(),
        "field": four_decimals(field),
        "rising": four_decimals(rising),
        "paths": four_decimals(torch.cat([start.unsqueeze(0), whole])[:, :, 0].transpose(0, 1)),
        "linear_paths": four_decimals(torch.cat([start.unsqueeze(0), linear])[:, :, 0].transpose(0, 1)),
    }
