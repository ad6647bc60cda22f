"""The basin of one node as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tsdistill.lab.figures.colours import RED, SEVERAL, WARM, name_axes
from tsdistill.report.canvas import ALIGNED, INK, UNALIGNED, dress, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def basin(data: Any) -> Figure:
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
    from matplotlib.patches import Circle

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
    from matplotlib import colormaps

    known = sorted({cell["dimension"] for cell in cells})
    shades = colormaps["viridis"](np.linspace(0.05, 0.8, len(known)))
    return list(zip(known, shades, strict=True))
