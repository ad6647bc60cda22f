"""Figures of population-gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from tsdistill.lab.figures.colours import RED, SEVERAL, WARM, name_axes
from tsdistill.lab.results import Outcome
from tsdistill.report.canvas import ALIGNED, INK, QUIET, UNALIGNED, dress, grid


def draw(outcome: Outcome) -> dict[str, Figure]:
    """The formula, the basin of one node, two nodes, symmetry breaking, and the manifolds."""
    data = outcome.data
    return {
        "population-gradient": _formula(data),
        "one-node-basin": _basin(data),
        "two-node-phase": _phase_portrait(data["phase"]),
        "symmetry-breaking": _symmetry(data["symmetry"]),
        "critical-manifolds": _manifolds(data["manifolds"]),
    }


def _formula(data: Any) -> Figure:
    figure, (points, errors, split) = grid(3)
    for item, colour in zip(data["checks"], SEVERAL, strict=False):
        label = f"{item['students']} student, {item['teachers']} teacher nodes"
        points.scatter(item["closed"], item["sampled"], s=9, color=colour, linewidths=0, label=label)
    ends = [
        min(min(item["closed"]) for item in data["checks"]),
        max(max(item["closed"]) for item in data["checks"]),
    ]
    points.plot(ends, ends, color=QUIET, linewidth=0.8, zorder=0)
    name_axes(points, "closed form", "Monte-Carlo")
    points.legend(fontsize=7, frameon=False, labelcolor=INK, loc="upper left")
    dress(points, "Every coordinate of the gradient")
    counts, relative = data["errors"]["samples"], data["errors"]["relative"]
    errors.loglog(counts, relative, color=ALIGNED, marker="o", markersize=4, linewidth=1.3, label="measured")
    middle = len(counts) // 2
    law = relative[middle] * np.sqrt(counts[middle] / np.array(counts))
    errors.loglog(counts, law, color=QUIET, linewidth=1, linestyle="--", label="1/√samples")
    name_axes(errors, "samples", "relative error of Monte-Carlo")
    errors.minorticks_off()
    errors.legend(fontsize=8, frameon=False, labelcolor=INK)
    dress(errors, "To sampling error", f"{data['errors']['students']} student nodes")
    angle = np.degrees(data["split"]["angle"])
    for key, label, colour in (
        ("linear", "linear part", ALIGNED),
        ("nonlinear", "non-linear part", WARM),
        ("total", "whole gradient", INK),
    ):
        split.plot(angle, data["split"][key], color=colour, linewidth=1.5, label=label)
    split.set_xticks([0, 45, 90, 135, 180])
    name_axes(split, "angle θ between w and w*, ‖w‖ = ‖w*‖ (degrees)", "norm / ‖w*‖")
    split.legend(fontsize=8, frameon=False, labelcolor=INK)
    dress(split, "Its two parts, one node")
    return figure


def _symmetry(symmetry: Any) -> Figure:
    figure, (cosines, losses, shares, times) = grid(4)
    shown = symmetry["shown"]
    cosine = np.array(shown["cosine"])
    winner = cosine[-1].argmax(1)
    for student, teacher in enumerate(winner):
        cosines.plot(shown["times"], cosine[:, student], color=UNALIGNED, linewidth=0.7, zorder=1)
        cosines.plot(
            shown["times"], cosine[:, student, teacher], color=SEVERAL[student % 6], linewidth=1.6, zorder=2
        )
    name_axes(cosines, "time of the flow", "cosine with each teacher node")
    dress(cosines, f"{shown['nodes']} students, equal to {shown['size']:g}", "colour: the node found")
    losses.semilogy(shown["times"], shown["loss"], color=ALIGNED, linewidth=1.5)
    losses.axhline(shown["saddle_loss"], color=QUIET, linewidth=1, linestyle="--")
    losses.annotate(
        "loss of the saddle",
        (shown["times"][-1], shown["saddle_loss"]),
        (0, 4),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=QUIET,
    )
    name_axes(losses, "time of the flow", "expected loss")
    dress(losses, "It waits at the saddle, then leaves")
    for run, colour in zip(symmetry["runs"], SEVERAL, strict=False):
        sizes = [cell["size"] for cell in run["cells"]]
        for panel, what, linewidth in ((shares, "found", 1.3), (times, "time", 0)):
            panel.semilogx(
                sizes,
                [cell[what] for cell in run["cells"]],
                color=colour,
                marker="o",
                markersize=4,
                linewidth=linewidth,
                label=f"K = {run['nodes']}",
            )
        times.semilogx(sizes, _law(run, sizes), color=colour, linewidth=1, linestyle="--")
    shares.set_ylim(-0.04, 1.08)
    name_axes(shares, "size ε of the perturbation", "share of runs")
    shares.legend(fontsize=8, frameon=False, labelcolor=INK)
    dress(shares, "One student on every teacher node")
    name_axes(times, "size ε of the perturbation", "time until they differ")
    times.legend(fontsize=8, frameon=False, labelcolor=INK)
    dress(times, "Time to break", "dashed: slope 1/λ of the saddle")
    return figure


def _law(run: Any, sizes: list[float]) -> list[float]:
    """A line of the predicted slope through the middle of what was measured."""
    logs = -np.log(np.array(sizes)) / run["rate"]
    return [float(value) for value in logs - logs.mean() + np.mean([cell["time"] for cell in run["cells"]])]


def _basin(data: Any) -> Figure:
    """The flow in the plane, the guaranteed region, observed convergence, and its time."""
    figure, (plane, balls, promised, time) = grid(4)
    _plane(plane, data["plane"])
    epsilons = sorted({item["epsilon"] for item in data["balls"]})
    for epsilon, colour in zip(epsilons, SEVERAL, strict=False):
        rows = [item for item in data["balls"] if item["epsilon"] == epsilon]
        across = [item["dimension"] for item in rows]
        balls.plot(
            across, [item["chance"] for item in rows], color=colour, marker="o", markersize=3.5, linewidth=1.3
        )
        balls.plot(across, [item["promised"] for item in rows], color=colour, linestyle="--", linewidth=1)
        balls.annotate(
            f"ε = {epsilon:g}",
            (across[-1], rows[-1]["chance"]),
            (4, -2),
            fontsize=7.5,
            color=colour,
            textcoords="offset points",
        )
    balls.set_xscale("log")
    balls.set_xlim(right=across[-1] * 2.4)
    balls.set_ylim(0, 0.55)
    name_axes(balls, "dimension d", "probability to start in the region")
    dress(balls, "Ball of radius ε√(2π/(d+1))", "dashed: (1 − ε)/2")
    _chances(promised, data["grid"])
    _times(time, data["grid"])
    return figure


def _plane(panel: Axes, plane: Any) -> None:
    field = np.array(plane["field"])
    panel.streamplot(
        np.array(plane["across"]),
        np.array(plane["up"]),
        field[..., 0],
        field[..., 1],
        color=UNALIGNED,
        linewidth=0.6,
        arrowsize=0.6,
        density=0.9,
    )
    panel.add_patch(Circle((1, 0), 1, facecolor=ALIGNED, alpha=0.14, edgecolor="none"))
    panel.add_patch(Circle((1, 0), 1, facecolor="none", edgecolor=ALIGNED, linewidth=1.1))
    for path in plane["linear_paths"][14::3]:
        panel.plot(*np.array(path).T, color=WARM, linewidth=0.8, linestyle=":")
    for path in plane["paths"]:
        panel.plot(*np.array(path).T, color=INK, linewidth=0.7, alpha=0.8)
    panel.plot(1, 0, marker="*", markersize=11, color=RED, markeredgecolor="white", zorder=5)
    panel.plot(0, 0, marker="o", markersize=3, color=INK, zorder=5)
    panel.set_xlim(-1.6, 2.4)
    panel.set_ylim(-1.6, 1.6)
    panel.plot([], [], color=WARM, linewidth=0.9, linestyle=":", label="linear part alone")
    panel.legend(fontsize=7, framealpha=0.85, edgecolor="none", labelcolor=INK, loc="lower right")
    panel.set_aspect("equal")
    name_axes(panel, "along w*", "across")
    dress(panel, "Flow of one node", "disc: guaranteed", lines="")


def _chances(panel: Axes, cells: Any) -> None:
    for dimension, colour in _colours(cells):
        rows = [cell for cell in cells if cell["dimension"] == dimension]
        across = [cell["deviation"] for cell in rows]
        panel.plot(across, [cell["promised"] for cell in rows], color=colour, linestyle="--", linewidth=1.1)
        panel.plot(
            across,
            [cell["observed"] for cell in rows],
            color=colour,
            marker="o",
            markersize=3.5,
            linewidth=1.2,
        )
        panel.plot(
            across, [cell["descent"] for cell in rows], color=colour, marker="x", markersize=5, linewidth=0
        )
        panel.plot([], [], color=colour, linewidth=1.4, label=f"d = {dimension}")
    panel.set_xscale("log")
    panel.set_ylim(-0.03, 1.08)
    panel.legend(fontsize=7, frameon=False, labelcolor=INK, loc="center right")
    name_axes(panel, "σ of the start / ‖w*‖", "probability")
    dress(panel, "Guaranteed and observed", "– – / ● flow, × SGD")


def _times(panel: Axes, cells: Any) -> None:
    for dimension, colour in _colours(cells):
        rows = [cell for cell in cells if cell["dimension"] == dimension and cell["median"] is not None]
        panel.plot(
            [cell["deviation"] for cell in rows],
            [cell["median"] for cell in rows],
            color=colour,
            marker="o",
            markersize=3.5,
            linewidth=1.2,
        )
    panel.set_xscale("log")
    panel.set_ylim(bottom=0)
    name_axes(panel, "σ of the start / ‖w*‖", "median time")
    dress(panel, "Time until ‖w − w*‖ < 0.01 ‖w*‖")


def _colours(cells: Any) -> list[tuple[int, Any]]:
    known = sorted({cell["dimension"] for cell in cells})
    shades = colormaps["viridis"](np.linspace(0.05, 0.8, len(known)))
    return list(zip(known, shades, strict=True))


def _phase_portrait(phase: Any) -> Figure:
    """The field of two symmetric nodes, its loss, its paths and its critical points."""
    figure, (panel,) = grid(1, alone=(6.4, 5.6))
    side, field, loss = np.array(phase["side"]), np.array(phase["field"]), np.array(phase["loss"])
    levels = np.geomspace(2e-3, max(loss.max(), 1e-2), 14)
    panel.contourf(
        side, side, np.maximum(loss, 1e-3), levels=[1e-3, *levels], cmap="Blues", alpha=0.45, norm="log"
    )
    panel.streamplot(
        side, side, field[..., 0], field[..., 1], color=QUIET, linewidth=0.55, arrowsize=0.7, density=1.3
    )
    for place, path in enumerate(phase["paths"]):
        colour = ALIGNED if place < len(phase["paths"]) / 2 else WARM
        panel.plot(*np.array(path).T, color=colour, linewidth=1.4)
        panel.plot(*path[0], color=colour, marker="o", markersize=3.5)
    panel.plot(side[[0, -1]], side[[0, -1]], color=INK, linewidth=0.9, linestyle=":")
    marks = {
        "minimum": ("*", RED, 190, "minimum"),
        "saddle": ("X", INK, 90, "saddle"),
        "maximum": ("^", INK, 80, "maximum"),
    }
    for kind, (mark, colour, size, label) in marks.items():
        coordinates = [(item["x"], item["y"]) for item in phase["points"] if item["kind"] == kind]
        if coordinates:
            panel.scatter(
                [x for x, _ in coordinates],
                [y for _, y in coordinates],
                marker=mark,
                color=colour,
                s=size,
                edgecolors="white",
                linewidths=0.9,
                zorder=6,
                label=label,
            )
    panel.annotate(
        f"x = y = {phase['saddle']:.4f}",
        (phase["saddle"],) * 2,
        (10, -14),
        textcoords="offset points",
        fontsize=9,
        color=INK,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.5},
        zorder=7,
    )
    panel.set_xlim(side[0], side[-1])
    panel.set_ylim(side[0], side[-1])
    panel.set_aspect("equal")
    panel.legend(fontsize=8.5, framealpha=0.9, edgecolor="none", labelcolor=INK, loc="lower left")
    name_axes(panel, "x: weight on the own teacher node", "y: weight on the other")
    dress(
        panel,
        "Two students, two orthonormal teacher nodes",
        "shade: loss; dots: x = y",
        small=False,
        lines="",
    )
    return figure


def _manifolds(data: Any) -> Figure:
    """The circle of critical points outside the span, the loss around it, and flat directions."""
    figure, (ring, land, flat) = grid(3)
    for place, colour in ((0, ALIGNED), (1, WARM)):
        points = np.array([item["outside"][place] for item in data["ring"]]).reshape(-1, 2)
        ring.scatter(
            points[:, 0],
            points[:, 1],
            s=22,
            color=colour,
            linewidths=0,
            alpha=0.85,
            label=f"student {place + 1}",
        )
    for item in data["ring"]:
        ring.plot(*np.array(item["outside"]).T, color=UNALIGNED, linewidth=0.5, zorder=0)
    if data["ring"]:
        angle = np.linspace(0, 2 * np.pi, 200)
        length = np.mean([np.linalg.norm(item["outside"][0]) for item in data["ring"]])
        ring.plot(
            length * np.cos(angle),
            length * np.sin(angle),
            color=QUIET,
            linewidth=0.8,
            linestyle="--",
            zorder=0,
        )
    ring.plot(0, 0, marker="+", color=INK, markersize=8)
    ring.set_aspect("equal", adjustable="datalim")
    name_axes(ring, "third coordinate", "fourth coordinate")
    ring.legend(fontsize=7.5, frameon=False, labelcolor=INK, loc="upper right")
    dress(ring, "Outside the span of 2 teachers, d = 4", f"{len(data['ring'])} searches")
    scene = data["landscape"]
    loss = np.array(scene["loss"])
    land.contourf(scene["across"], scene["up"], loss, levels=22, cmap="Blues_r", alpha=0.8)
    land.contour(scene["across"], scene["up"], loss, levels=22, colors="white", linewidths=0.4)
    row, column = np.unravel_index(loss.argmin(), loss.shape)
    middle = loss[len(loss) // 2].argmin()
    for a, b in ((column, scene["up"][row]), (column, -scene["up"][row]), (middle, 0.0)):
        land.plot(scene["across"][a], b, marker="X", color=RED, markersize=8, markeredgecolor="white")
    name_axes(land, "a: along the teachers' middle", "±b: out of the span")
    dress(land, "Loss of w = a m ± b u", "X: critical points", lines="")
    points = data["points"]
    inside = [item for item in points if item["away"] <= 1e-4]
    out = [item for item in points if item["away"] > 1e-4]
    top = max([item["flat"] for item in points] + [1])
    flat.plot([0, top + 0.5], [0, top + 0.5], color=QUIET, linewidth=0.8, linestyle="--", zorder=0)
    for items, colour, label in ((out, ALIGNED, "outside the span"), (inside, UNALIGNED, "inside")):
        counted: dict[tuple[int, int], int] = {}
        for item in items:
            counted[item["orbit"], item["flat"]] = counted.get((item["orbit"], item["flat"]), 0) + 1
        if counted:
            across, up = zip(*counted, strict=True)
            flat.scatter(
                across,
                up,
                s=[30 + 6 * value for value in counted.values()],
                color=colour,
                alpha=0.85,
                linewidths=0,
                label=label,
            )
        for (x, y), value in counted.items():
            flat.annotate(
                str(value),
                (x, y),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if items is out else INK,
            )
    flat.set_xlim(-0.6, top + 0.9)
    flat.set_ylim(-0.6, top + 0.9)
    name_axes(flat, "dimension of the manifold of rotations", "flat directions of the Hessian")
    if points:
        flat.legend(fontsize=7.5, frameon=False, labelcolor=INK, loc="upper left")
    dress(flat, "Critical points found", "how many")
    return figure
