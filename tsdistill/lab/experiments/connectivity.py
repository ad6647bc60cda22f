"""Loss between two independently trained students: on the straight line, and on a polyline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.lab import engine
from tsdistill.lab.engine.node_statistics import rounded
from tsdistill.lab.experiment import Context, Experiment, SweepSettings
from tsdistill.lab.layers.polyline import Polyline, connecting_polyline, straight_line
from tsdistill.lab.layers.small_convnets import dead_leaves_images, random_convnet, train_by_adam
from tsdistill.lab.results import Claim, Outcome, Table
from tsdistill.options.option_fields import option

FIT_SAMPLES = 2048
"""Samples on which readers are refitted, and as many others on which losses are measured: many
times the widest layer's nodes."""
TRAINING_DRAW, LOSS_DRAW, FIT_DRAW, CONVNET_DRAW = 11, 12, 13, 14
"""Keys of the random streams: training, losses, refits, ConvNets."""
Cell = dict[str, Any]


@dataclass(frozen=True)
class Connectivity(SweepSettings):
    """Pairs of students, and the points of their paths."""

    dtype: str = "float64"
    pairs: int = option(16, "Pairs of two-layer students, each with a teacher of its own", above=0)
    inputs: int = option(20, "Dimension d of the Gaussian input", above=0)
    over: tuple[int, ...] = option(
        (2, 5, 10), "Over-realisation, 2 or more: a student as wide as the teacher has no free node", least=2
    )
    steps: int = option(40_000, "Steps of SGD of two-layer students", above=0)
    rate: float = option(0.3, "Step size; a third of it for the last 30 % of the steps", above=0)
    conv_pairs: int = option(4, "Pairs of ConvNet students; 0 leaves them out", least=0)
    conv_over: int = option(4, "Over-realisation of the ConvNets", least=2)
    conv_steps: int = option(4000, "Steps of Adam of the ConvNets", above=0)
    conv_samples: int = option(2048, "Pictures that ConvNets are trained on", above=0)
    points: int = option(20, "Points on each segment", above=0)


def run(settings: Connectivity, context: Context) -> Outcome:
    """Train pairs, and measure the loss on the straight line and on polylines.

    Raises:
        TsdistillError: the largest stack of students does not fit into memory.
    """
    where = engine.training_device(
        settings, 2 * settings.pairs, settings.inputs, (settings.nodes,),
        (settings.nodes * max(settings.over),), samples=FIT_SAMPLES, reduce="--pairs, --over or --nodes",
    )  # fmt: skip
    key = settings.key("over")
    cells = engine.sweep(
        context, "connectivity", key, [{"over": over} for over in settings.over],
        lambda _, over: _two_layers(settings, over, where),
    )  # fmt: skip
    conv_cells = engine.sweep(
        context, "connectivity-conv", key, [{"pair": pair} for pair in range(settings.conv_pairs)],
        lambda _, pair: _convolutional(settings, pair, where["device"]),
    )  # fmt: skip
    if conv_cells:
        cells.append(_together(conv_cells, settings.conv_over))
    return Outcome(
        "connectivity",
        {},
        claims_of(cells),
        (table_of(cells),),
        {"cells": cells},
        (
            "losses are on samples that were neither trained on nor used to refit readers, by the teacher's "
            "energy (variance of its outputs for ConvNets)",
            "students as wide as the teacher (1x) cannot be joined like this: no slot is free for a node",
        ),
    )


def _two_layers(settings: Connectivity, over: int, where: Mapping[str, Any]) -> Cell:
    """Pairs of two-layer students of one width."""
    seeds = [1000 * settings.seed + pair for pair in range(settings.pairs) for _ in range(2)]
    d, m, c = settings.inputs, settings.nodes, settings.outputs
    teachers = engine.decaying_teachers(seeds, d, m, c, settings.decay, **where)
    starts = [1000 * settings.seed + place for place in range(len(seeds))]
    students = engine.random_students(starts, d, (m * over,), c, scale=settings.start, **where)
    engine.train(
        students,
        teachers,
        engine.GaussianSamples(settings.seed + TRAINING_DRAW, d, **where),
        steps=settings.steps,
        batch=settings.batch,
        rate=lambda step: settings.rate * (1 if step < 0.7 * settings.steps else 1 / 3),
    )
    fitted, x = (
        engine.GaussianSamples(settings.seed + draw, d, **where).rows(FIT_SAMPLES)
        for draw in (FIT_DRAW, LOSS_DRAW)
    )
    rows = []
    for pair in range(settings.pairs):
        y = teachers.some([2 * pair])(x)[0]
        one, two = (students.module(2 * pair + place) for place in range(2))
        rows.append(_measured(one, two, fitted, x, y, [settings.nodes], settings.points, centred=False))
    return {"kind": "two layers", "over": over, "width": m * over, **_columns(rows)}


def _convolutional(settings: Connectivity, number: int, device: torch.device) -> Cell:
    """One pair of ConvNets; widths of the teacher 6 and 8."""
    teacher_widths = (6, 8)
    seed = 1000 * settings.seed + number
    teacher = random_convnet(teacher_widths, settings.outputs, engine.generator_of(CONVNET_DRAW, seed, 0)).to(
        device
    )
    widths = (teacher_widths[0] * settings.conv_over, teacher_widths[1] * settings.conv_over)
    x, fitted, watched = (
        dead_leaves_images(count, 3 * seed + k).to(device)
        for k, count in enumerate((settings.conv_samples, 512, 512))
    )
    with torch.no_grad():
        y, right = teacher(x), teacher(watched)
    students: list[nn.Module] = []
    for place in (1, 2):
        generator = engine.generator_of(CONVNET_DRAW, seed, place)
        model = random_convnet(widths, settings.outputs, generator).to(device)
        train_by_adam(
            model, x, y,
            steps=settings.conv_steps, batch=32, rate=3e-3, generator=generator,
        )  # fmt: skip
        students.append(model)
    points = max(2, settings.points // 2)
    one, two = students
    return _measured(one, two, fitted, watched, right, list(teacher_widths), points, centred=True)


def _measured(
    one: nn.Module,
    two: nn.Module,
    fitted: Tensor,
    x: Tensor,
    y: Tensor,
    least: list[int],
    points: int,
    centred: bool,
) -> Cell:
    """Losses along the three paths between the students of a pair."""
    energy = (y - y.mean(0) if centred else y).square().sum(1).mean() / 2

    def along(path: Polyline) -> dict[str, Any]:
        def loss(state: Any) -> float:
            return float((path.chain.output(state, x) - y).square().sum(1).mean() / 2 / energy)

        places, losses = path.along(loss, points if len(path.segments) > 1 else 4 * points)
        return {
            "places": rounded(places),
            "loss": rounded(losses, 12),
            "ends": rounded([loss(vertex) for vertex in path.vertices], 12),
            "segments": list(path.segments),
        }

    return {
        "straight": along(straight_line(one, two)),
        "half": along(connecting_polyline(one, two, fitted)),
        "least": along(connecting_polyline(one, two, fitted, keep=least)),
    }


def _columns(rows: list[Cell]) -> Cell:
    """All pairs together: a list of losses for each path."""
    return {
        path: {
            "places": rows[0][path]["places"],
            "segments": rows[0][path]["segments"],
            "loss": [row[path]["loss"] for row in rows],
            "ends": [row[path]["ends"] for row in rows],
        }
        for path in ("straight", "half", "least")
    }


def _together(cells: list[Cell], over: int) -> Cell:
    return {"kind": "ConvNet", "over": over, "width": None, **_columns(cells)}


EXPERIMENT = Experiment(
    settings=Connectivity,
    quick={
        "pairs": 4,
        "over": (2, 5),
        "steps": 8000,
        "conv_pairs": 1,
        "conv_steps": 600,
        "conv_samples": 1024,
        "points": 8,
    },
    run=run,
)


SOURCE = "arXiv 1909.13458, section 3 (mode connectivity); the talk"
EXACT = 1e-9
"""Excess over the highest vertex, relative to it, that counts as rounding of float64 sums."""
LOW = 0.1
"""Rise on a polyline, by the rise on the straight line, below which its error counts as low: an order of
magnitude."""

Cells = Sequence[dict[str, Any]]


def peaks(cell: dict[str, Any], path: str) -> np.ndarray:
    """The highest loss on a path ``[pairs]``."""
    return np.array(cell[path]["loss"]).max(1)


def table_of(cells: Cells) -> Table:
    """Ends and highest points of every path (medians over pairs)."""
    rows = []
    for cell in cells:
        ends = np.array(cell["straight"]["ends"]).max(1)
        rows.append(
            (
                cell["kind"],
                f"{cell['over']}x",
                len(ends),
                float(np.median(ends)),
                *(float(np.median(peaks(cell, path))) for path in ("straight", "half", "least")),
                f"{np.median(peaks(cell, 'straight') / peaks(cell, 'half')):.3g}x",
            )
        )
    columns = (
        "students", "over", "pairs", "worse end", "straight line", "polyline, half kept",
        "polyline, as many as the teacher", "straight / polyline",
    )  # fmt: skip
    return Table(
        "highest loss on the way, by the teacher's energy (medians over pairs)", columns, tuple(rows)
    )


def claims_of(cells: Cells) -> tuple[Claim, ...]:
    """The claims of the theory, two-layer students first."""
    two = [cell for cell in cells if cell["kind"] == "two layers"]
    conv = [cell for cell in cells if cell["kind"] == "ConvNet"]
    claims = [_apart(cells), _exact(two), _low(two, "half"), _low(two, "least")]
    if conv:
        claims.append(_low(conv, "half"))
    return tuple(claims)


def _apart(cells: Cells) -> Claim:
    ratio = np.concatenate([peaks(c, "straight") / np.array(c["straight"]["ends"]).max(1) for c in cells])
    return Claim(
        "the error is high on the straight line between two students",
        SOURCE,
        f"the highest loss is {np.median(ratio):.3g} times that of the worse end (median of {len(ratio)} "
        f"pairs, least {ratio.min():.3g}; asked: every one above 2)",
        bool((ratio > 2).all()),
    )


def _exact(two: Cells) -> Claim:
    excess = []
    for cell in two:
        for path in ("half", "least"):
            ends = np.array(cell[path]["ends"]).max(1)
            excess.append((np.array(cell[path]["loss"]).max(1) - ends) / ends)
    worst = float(np.concatenate(excess).max())
    return Claim(
        "for two layers the loss on the polyline is nowhere above that of its vertices",
        "convexity in the output layer (arXiv 1909.13458, section 3; Kuditipudi et al. 2019)",
        f"largest excess {max(worst, 0.0):.1e} of the highest vertex (asked: {EXACT:g}), on fresh samples",
        worst <= EXACT,
    )


def _low(cells: Cells, path: str) -> Claim:
    low, high = (np.concatenate([peaks(cell, each) for cell in cells]) for each in (path, "straight"))
    ends = np.concatenate([np.array(cell["straight"]["ends"]).max(1) for cell in cells])
    rise, barrier = low - ends, high - ends
    kept = "half of the nodes" if path == "half" else "as many nodes as the teacher has"
    share = rise / barrier
    return Claim(
        f"a polyline of low error joins two {cells[0]['kind']} students, {kept} kept on the way".replace(
            "two two layers students", "two-layer students"
        ),
        SOURCE,
        f"the rise over the worse end is {np.median(share):.2g} of the straight line's (median of "
        f"{len(share)} pairs, largest {share.max():.2g}; asked: every one below {LOW:g}); highest loss "
        f"{np.median(low):.1e} against {np.median(high):.1e} of the teacher's energy",
        bool((share < LOW).all()),
    )
