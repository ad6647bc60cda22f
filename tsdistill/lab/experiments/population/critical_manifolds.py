"""Critical points outside the teachers' span: search, rotations, and flat directions."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from tsdistill.lab.experiments.population.study import PopulationGradient
from tsdistill.lab.gaussian.critical_points import (
    CriticalPoint,
    component_outside_span,
    find_critical_point,
    orbit_dimension,
    random_rotation,
)
from tsdistill.lab.gaussian.expected_loss import expected_loss, velocity
from tsdistill.lab.results import Claim, Outcome, Table

PAPER = "arXiv 1703.00560"
AWAY = 1e-4
"""Length of the part outside the span above which a critical point counts as outside; the search ends at a
gradient of 1e-10, so points inside have far less."""
TURNS = 20
"""Random rotations that each critical point is checked under: more than the rotations have dimensions."""
SIZES = ((2, 4), (2, 4), (2, 5), (3, 5), (3, 6))
"""Nodes and input dimensions that are searched, all with d ≥ K + 2; the first, which is drawn, twice."""


def study(settings: PopulationGradient) -> Outcome:
    """Search critical points from random starts, inside and outside the span."""
    generator = torch.Generator().manual_seed(settings.seed + 100)
    share = max(1, settings.searches // len(SIZES)) if settings.searches else 0
    items: list[dict[str, Any]] = []
    ring: list[Any] = []
    turned = 0.0
    for count, dimension in SIZES:
        teachers = torch.eye(count, dimension, dtype=torch.float64)
        for point in _searched(teachers, share, generator):
            item = _item(point, teachers)
            items.append(item)
            if item["away"] > AWAY:
                turned = max(turned, _turned(point.students, teachers, generator))
                if (count, dimension) == (2, 4):
                    ring.append({"outside": point.students[:, 2:].tolist(), "loss": item["loss"]})
    out = [item for item in items if item["away"] > AWAY]
    match = sum(item["flat"] == item["orbit"] for item in out)
    enough = all(item["flat"] >= item["orbit"] >= 1 for item in out)
    cone = _in_cone(share, generator)
    claims = (
        Claim(
            "Critical points outside the teachers' span form manifolds: every rotation that keeps the "
            "teachers gives another.",
            f"{PAPER}, critical points outside the span (d ≥ K + 2)",
            f"{len(out)} found outside (of {len(items)}); largest gradient after {TURNS} random rotations "
            f"of each {turned:.0e} (1e-9 allowed)",
            turned < 1e-9 if out else None,
        ),
        Claim(
            "So they are not isolated: the Hessian is flat along the manifold.",
            f"{PAPER}, critical points outside the span (d ≥ K + 2)",
            f"flat directions are at least as many as the manifold has dimensions at all {len(out)}, and "
            f"just as many at {match}",
            enough if out else None,
        ),
        Claim(
            "Two students inside the cone of two teachers are at no critical point unless they are parallel.",
            f"{PAPER}, two nodes (regions without critical points)",
            f"{cone['found']} critical points in the plane from random starts: {cone['parallel']} with "
            f"parallel students, {cone['teachers']} at the "
            f"teachers, {cone['inside']} with both inside the cone and neither",
            cone["inside"] == 0 if cone["found"] else None,
        ),
    )
    kinds = Counter(
        (
            item["nodes"],
            item["dimension"],
            f"{abs(item['loss']):.5f}",
            item["kind"],
            item["falling"],
            item["flat"],
            item["orbit"],
        )
        for item in items
    )
    rows = tuple((*kind, times) for kind, times in sorted(kinds.items()))
    columns = ("K", "d", "loss", "kind", "falling", "flat", "manifold's dimension", "found")
    table = Table("Critical points from random starts, by kind", columns, rows)
    data = {"manifolds": {"points": items, "ring": ring, "landscape": _landscape()}}
    return Outcome("", {}, claims, (table,), data)


def _searched(teachers: Tensor, count: int, generator: torch.Generator) -> list[CriticalPoint]:
    nodes, dimension = teachers.shape
    points = []
    for _ in range(count):
        start = 0.6 * torch.randn(nodes, dimension, generator=generator, dtype=torch.float64)
        point = find_critical_point(start, teachers)
        if point is not None:
            points.append(point)
    return points


def _item(point: CriticalPoint, teachers: Tensor) -> dict[str, Any]:
    return {
        "nodes": len(teachers),
        "dimension": teachers.shape[1],
        "loss": round(float(expected_loss(point.students, teachers)), 8),
        "away": float(component_outside_span(point.students, teachers).norm()),
        "kind": point.kind(),
        "falling": point.falling(),
        "flat": point.flat(),
        "orbit": orbit_dimension(point.students, teachers),
    }


def _turned(students: Tensor, teachers: Tensor, generator: torch.Generator) -> float:
    turns = torch.stack([random_rotation(teachers, generator) for _ in range(TURNS)])
    return float(velocity(students @ turns.mT, teachers).total.abs().max())


def _in_cone(count: int, generator: torch.Generator) -> dict[str, int]:
    teachers = torch.eye(2, dtype=torch.float64)
    points = [point.students for point in _searched(teachers, count, generator)]
    parallel = [_parallel(each) for each in points]
    at_teachers = [
        bool((each.sort(0).values - each.new_tensor([0, 1]).unsqueeze(1)).abs().max() < 1e-6)
        for each in points
    ]
    inner = [bool((each > 1e-6).all()) for each in points]
    both = zip(parallel, at_teachers, inner, strict=True)
    return {
        "found": len(points),
        "parallel": sum(parallel),
        "teachers": sum(at_teachers),
        "inside": sum(within and not (aligned or done) for aligned, done, within in both),
    }


def _parallel(students: Tensor) -> bool:
    return abs(float(torch.cosine_similarity(students[0], students[1], dim=0))) > 1 - 1e-8


def _landscape() -> dict[str, Any]:
    """Loss of w = a (w*_1 + w*_2)/√2 ± b u, u orthogonal to both teachers, and its lowest point."""
    across, up = torch.linspace(0.1, 1.1, 41), torch.linspace(-0.8, 0.8, 49)
    a, b = torch.meshgrid(across.double(), up.double(), indexing="xy")
    half = math.sqrt(0.5)
    students = torch.stack([torch.stack([half * a, half * a, sign * b], -1) for sign in (1, -1)], -2)
    loss = expected_loss(students, torch.eye(2, 3, dtype=torch.float64))
    return {"across": across.tolist(), "up": up.tolist(), "loss": (loss * 1e5).round().div(1e5).tolist()}
