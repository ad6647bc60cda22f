"""Figures of two-layer: recovery by teacher index, L-shaped curves, convergence."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from tsdistill.lab import Outcome
from tsdistill.lab.engine.node_statistics import ALIGNED as FROM
from tsdistill.lab.figures.colours import blue_shades
from tsdistill.report.canvas import ALIGNED, GRID, axes_names, dress, grid


def draw(outcome: Outcome) -> dict[str, Figure]:
    """For each number of teacher nodes m: ``two-layer-recovery-m``, ``-curve-m`` and ``-convergence-m``."""
    figures: dict[str, Figure] = {}
    cells = outcome.data["cells"]
    for m in dict.fromkeys(each["nodes"] for each in cells):
        some = [each for each in cells if each["nodes"] == m]
        figures[f"two-layer-recovery-{m}"] = _recovery(outcome, m, some)
        figures[f"two-layer-curve-{m}"] = _curves(m, some)
        figures[f"two-layer-convergence-{m}"] = _convergence(outcome, m, some)
    return figures


def _recovery(outcome: Outcome, m: int, cells: list[dict[str, Any]]) -> Figure:
    decays = cells[0]["decay"]
    figure, panels = grid(len(decays))
    index = range(1, m + 1)
    for k, panel in enumerate(panels):
        for each, colour in zip(cells, blue_shades(len(cells)), strict=True):
            panel.plot(index, each["late"][k], "-", color=colour, label=f"{each['over']}x")
            panel.plot(index, each["early"][k], "--", color=colour, linewidth=1)
        panel.set_ylim(-0.04, 1.04)
        dress(panel, f"p = {decays[k]:g}")
    panels[0].legend(fontsize=7, frameon=False)
    early, late = outcome.data["early"], outcome.data["at"][-1]
    title = f"{m} teacher nodes: recovered after {early:,} (dashed) and {late:,} steps"
    axes_names(figure, "teacher node, the strongest first", "share of students that recovered it", title)
    return figure


def _curves(m: int, cells: list[dict[str, Any]]) -> Figure:
    figure, panels = grid(len(cells))
    decays = cells[0]["decay"]
    for each, panel in zip(cells, panels, strict=True):
        for points, colour, p in zip(each["points"], blue_shades(len(decays)), decays, strict=True):
            x, y = zip(*points, strict=True)
            panel.scatter(x, y, s=7, color=colour, linewidths=0, label=f"p = {p:g}")
        panel.axvline(FROM, color=GRID, linewidth=1.2, zorder=0)
        panel.set_xlim(-0.05, 1.05)
        dress(panel, f"{each['over']}x", f"{sum(each['small'])} with small loss")
    panels[0].legend(fontsize=7, frameon=False, loc="upper left")
    title = f"{m} teacher nodes: student nodes after training"
    axes_names(figure, "correlation with the best teacher node", "strength", title)
    return figure


def _convergence(outcome: Outcome, m: int, cells: list[dict[str, Any]]) -> Figure:
    decays, at = cells[0]["decay"], outcome.data["at"]
    figure, panels = grid(len(decays))
    for k, panel in enumerate(panels):
        for each, colour in zip(cells, blue_shades(len(cells)), strict=True):
            panel.plot(at, each["loss"][k], color=colour, label=f"{each['over']}x")
        panel.set_yscale("log")
        matched = panel.twinx()
        widest = max(cells, key=lambda each: each["over"])
        matched.plot(at, widest["correlation"][k], color=ALIGNED, linestyle=":")
        matched.set_ylim(-0.04, 1.04)
        dress(matched, "", lines="")
        dress(panel, f"p = {decays[k]:g}")
    panels[0].legend(fontsize=7, frameon=False)
    title = f"{m} teacher nodes: relative loss; dotted: mean best correlation of the widest (right, 0 to 1)"
    axes_names(figure, "steps", "relative loss, median over seeds", title)
    return figure
