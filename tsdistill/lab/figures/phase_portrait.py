"""Phase portrait and manifolds of critical points as figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tsdistill.lab.figures.colours import RED, WARM, name_axes
from tsdistill.report.canvas import ALIGNED, INK, QUIET, UNALIGNED, dress, grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def phase_portrait(phase: Any) -> Figure:
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


def manifolds(data: Any) -> Figure:
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
