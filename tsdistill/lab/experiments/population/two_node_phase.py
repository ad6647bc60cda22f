"""Two students and two orthonormal teacher nodes, symmetric starts: phase portrait and critical points."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from tsdistill.lab.experiments.population.study import PopulationGradient, four_decimals
from tsdistill.lab.gaussian.critical_points import (
    critical_point,
    symmetric_saddle,
    symmetric_students,
    symmetric_velocity,
)
from tsdistill.lab.gaussian.expected_loss import expected_loss
from tsdistill.lab.gaussian.gradient_flow import integrate
from tsdistill.lab.results import Claim, Outcome, Table

PAPER = "arXiv 1703.00560"
LOW, HIGH = -0.6, 1.5
"""Range of x and y that is searched and drawn: around the teachers, at 0 and 1."""
NEAR = 1e-3
"""Distance to the teachers below which a path counts as converged; from there on it falls
exponentially."""


def study(settings: PopulationGradient) -> Outcome:
    """The field over (x, y), all its critical points, paths from the region of the theorem."""
    identity = torch.eye(2, dtype=torch.float64)
    points = _critical_points()
    kinds: list[dict[str, Any]] = []
    for point in points:
        known = critical_point(symmetric_students(point, 2), identity)
        kinds.append(
            {
                "x": float(point[0]),
                "y": float(point[1]),
                "kind": known.kind(),
                "falling": known.falling(),
                "loss": float(expected_loss(known.students, identity)),
                "curvatures": known.curvatures.tolist(),
            }
        )
    on_line = min(
        abs(item["x"] - symmetric_saddle(2)) + abs(item["y"] - symmetric_saddle(2)) for item in kinds
    )
    minima = sorted((round(item["x"], 6), round(item["y"], 6)) for item in kinds if item["kind"] == "minimum")
    counts = tuple(dict.fromkeys((2, *settings.symmetric)))
    reached = {count: _from_region(count, settings.seed) for count in counts}
    still = {count: _on_diagonal(count) for count in counts}
    listed = ", ".join(f"K = {count}: {share:.1%}" for count, share in reached.items())
    claims = (
        Claim(
            "With K students that are permutations of one another, every start with 0 ≤ y < x ≤ 1 "
            "reaches the teachers.",
            f"{PAPER}, several nodes (symmetric starts)",
            f"400 random starts each that end within {NEAR:g}: {listed}",
            all(share == 1 for share in reached.values()),
        ),
        Claim(
            "A start with x = y reaches the saddle x = y = (√(K − 1) − arccos(1/√K) + π)/(πK) instead.",
            f"{PAPER}, several nodes (symmetric starts)",
            f"largest distance of the end of the flow to that formula, K = {', '.join(map(str, counts))}: "
            f"{max(still.values()):.0e} (1e-5 allowed); a search of the plane finds it to {on_line:.0e}",
            max(still.values()) < 1e-5 and on_line < 1e-8,
        ),
        Claim(
            "The only minima of two symmetric nodes are the teachers and their exchange.",
            f"{PAPER}, several nodes; phase portrait",
            f"{len(kinds)} critical points with x and y from {LOW:g} to {HIGH:g}, minima at {minima}",
            minima == [(0.0, 1.0), (1.0, 0.0)],
        ),
    )
    rows = tuple(
        (
            f"{item['x']:.4f}",
            f"{item['y']:.4f}",
            item["kind"],
            item["falling"],
            f"{item['loss']:.5f}",
            ", ".join(f"{value:.3f}" for value in item["curvatures"]),
        )
        for item in kinds
    )
    table = Table(
        "Critical points of two symmetric nodes",
        ("x", "y", "kind", "falling directions", "loss", "eigenvalues of the Hessian"),
        rows,
    )
    return Outcome(
        "", {}, claims, (table,), {"phase": {"points": kinds, **_field(), "saddle": symmetric_saddle(2)}}
    )


def _critical_points() -> list[Tensor]:
    """Zeros of the field of (x, y) in the square, found from a grid of starts."""

    def pulled(point: np.ndarray) -> np.ndarray:
        return symmetric_velocity(torch.tensor(point), 2).numpy()

    zeros: list[np.ndarray] = []
    side = np.linspace(LOW, HIGH, 12)
    for x in side:
        for y in side + 0.013:
            ended = optimize.root(pulled, np.array([x, y]), tol=1e-13)
            point = ended.x
            inside = (point > LOW).all() and (point < HIGH).all() and np.abs(point).max() > 1e-3
            new = all(np.abs(point - other).max() > 1e-5 for other in zeros)
            if inside and new and np.abs(pulled(point)).max() < 1e-11:
                zeros.append(point)
    return [
        torch.tensor(point).where(torch.tensor(np.abs(point) > 1e-11), 0.0)
        for point in sorted(zeros, key=tuple)
    ]


def _from_region(count: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed + count)
    drawn = torch.rand(400, 2, generator=generator, dtype=torch.float64).sort(dim=1, descending=True).values
    path = integrate(lambda plane: symmetric_velocity(plane, count), drawn, [100.0])
    goal = drawn.new_tensor([1.0, 0.0])
    return float(((path[-1] - goal).norm(dim=1) < NEAR).double().mean())


def _on_diagonal(count: int) -> float:
    start = torch.linspace(0.05, 1.5, 20, dtype=torch.float64).unsqueeze(1).repeat(1, 2)
    path = integrate(
        lambda plane: symmetric_velocity(plane.mean(1, keepdim=True).repeat(1, 2), count), start, [100.0]
    )
    return float((path[-1] - symmetric_saddle(count)).abs().max())


def _field() -> dict[str, Any]:
    side = torch.linspace(LOW, HIGH, 43, dtype=torch.float64)
    plane = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1)
    field = symmetric_velocity(plane, 2)
    loss = expected_loss(symmetric_students(plane, 2), torch.eye(2, dtype=torch.float64))
    starts = torch.tensor(
        [
            [0.02, 0.01],
            [0.1, 0.099],
            [0.5, 0.49],
            [1.0, 0.98],
            [1.4, 1.3],
            [0.9, 0.1],
            [-0.4, -0.5],
            [1.3, -0.5],
        ],
        dtype=torch.float64,
    )
    starts = torch.cat([starts, starts.flip(1)])
    times = [0.05 * 1.22**step for step in range(38)]
    paths = torch.cat(
        [starts.unsqueeze(0), integrate(lambda plane: symmetric_velocity(plane, 2), starts, times)]
    )
    return {
        "side": side.tolist(),
        "field": four_decimals(field),
        "loss": four_decimals(loss),
        "paths": four_decimals(paths.transpose(0, 1)),
    }
