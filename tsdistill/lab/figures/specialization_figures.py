"""Figures of the experiment specialization."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tsdistill.lab.experiments.specialization_claims import constant
from tsdistill.lab.results import Outcome
from tsdistill.report.canvas import ALIGNED, INK, QUIET, UNALIGNED, axes_names, dress, grid

LEAST = 1e-6
"""Least strength on a logarithmic axis."""
NODES = ("#1b4965", "#2f77b4", "#5fa8d3", "#e0a458", "#c1666b", "#8a8a8a")


def draw(outcome: Outcome) -> dict[str, Figure]:
    """The L-shaped curve of every cell; precision against gradient; students of each teacher node."""
    cells = outcome.data["cells"]
    return {
        "l-curve": _curves(cells, outcome.data["aligned"]),
        "bound": _bound(cells),
        "students": _students(cells),
    }


def _title(cell: dict[str, Any]) -> str:
    return f"d = {cell['d']}, {cell['over']}x"


def _flat(rows: list[list[float]]) -> np.ndarray:
    return np.array([value for row in rows for value in row])


def _curves(cells: list[dict[str, Any]], aligned: float) -> Figure:
    wide = [cell for cell in cells if cell["over"] > 1] or cells
    figure, panels = grid(len(wide))
    for panel, cell in zip(panels, wide, strict=True):
        best = _flat(cell["end"]["best"])
        strength = np.maximum(_flat(cell["end"]["strength"]), LEAST)
        net = np.maximum(_flat(cell["end"]["net"]), LEAST)
        other = best < aligned
        moved = other & (strength > 3 * net)
        for x, high, low in zip(best[moved], strength[moved], net[moved], strict=True):
            panel.plot((x, x), (high, low), color=UNALIGNED, linewidth=0.6, zorder=1)
        panel.scatter(best[other], strength[other], s=11, facecolor="none", edgecolor=QUIET, linewidth=0.7)
        panel.scatter(best[other], net[other], s=9, color=UNALIGNED, zorder=2)
        panel.scatter(best[~other], strength[~other], s=11, color=ALIGNED, zorder=3)
        panel.axvline(aligned, color=QUIET, linewidth=0.8, linestyle=":")
        panel.set_yscale("log")
        panel.set_xlim(min(-0.1, float(best.min()) - 0.05), 1.04)
        dress(panel, _title(cell), f"{int(other.sum())} of {len(other)} unaligned")
    axes_names(
        figure,
        "correlation with the best teacher node",
        "strength ‖v_k‖ σ",
        "blue: aligned; ring: unaligned; grey dot: fan-outs of all students on its boundary added up",
    )
    return figure


def _bound(cells: list[dict[str, Any]]) -> Figure:
    figure, panels = grid(len(cells))
    for panel, cell in zip(panels, cells, strict=True):
        _bound_panel(panel, cell)
    axes_names(
        figure,
        "gradient G / strength α",
        "precision ε (sin of the angle)",
        "one colour a teacher node (darkest: strongest); dashed: granted by Theorem 4; dotted: ε = G / α",
    )
    return figure


def _bound_panel(panel: Axes, cell: dict[str, Any]) -> None:
    shots = cell["snapshots"]
    gradient = np.array([shot["gradient"] for shot in shots])[:, :, None]
    alpha = np.array([shot["alpha"] for shot in shots])
    measured = np.array([shot["precision"] for shot in shots])
    seen = (alpha > 0) & (measured > 0) & (gradient > 0)
    ratio = (gradient / np.where(alpha > 0, alpha, 1))[seen]
    shade = np.broadcast_to(np.arange(alpha.shape[2]), alpha.shape)[seen]
    for node in range(alpha.shape[2]):
        here = shade == node
        panel.scatter(
            ratio[here], measured[seen][here], s=6, color=NODES[min(node, len(NODES) - 1)], label=node + 1
        )
    line = np.array([max(ratio.min(), 1e-15), ratio.max()])
    panel.plot(line, constant(cell) * line, color=INK, linewidth=1, linestyle="--")
    panel.plot(line, line, color=QUIET, linewidth=1, linestyle=":")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_ylim(max(measured[seen].min() / 3, 1e-17), 3)
    dress(panel, _title(cell), f"K = {cell['K']}")


def _students(cells: list[dict[str, Any]]) -> Figure:
    figure, panels = grid(len(cells))
    for panel, cell in zip(panels, cells, strict=True):
        students = np.array(cell["end"]["students"])
        places = np.arange(1, students.shape[1] + 1)
        panel.bar(places, students.mean(0), width=0.65, color=ALIGNED)
        panel.errorbar(
            places, students.mean(0), students.std(0), fmt="none", ecolor=INK, elinewidth=0.8, capsize=2
        )
        panel.axhspan(2, 3, color=UNALIGNED, alpha=0.35, zorder=0)
        panel.set_xticks(places)
        dress(panel, _title(cell), f"{students.mean():.1f} a teacher node", lines="y")
    axes_names(
        figure, "teacher node, strongest first", "aligned student nodes",
        "mean and spread over networks; band: the talk's two or three",
    )  # fmt: skip
    return figure
