"""Figures of the experiment connectivity."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tsdistill.lab.results import Outcome
from tsdistill.report.canvas import ALIGNED, INK, QUIET, UNALIGNED, axes_names, dress, grid

LEAST = 1e-12
"""Least loss on a logarithmic axis."""
PATHS = (
    ("straight", "#c1666b", "straight line"),
    ("least", UNALIGNED, "polyline, as many nodes kept as the teacher has"),
    ("half", ALIGNED, "polyline, half of the nodes kept"),
)


def draw(outcome: Outcome) -> dict[str, Figure]:
    """Loss along the paths, a panel for each kind of student."""
    cells = outcome.data["cells"]
    figure, panels = grid(len(cells))
    for panel, cell in zip(panels, cells, strict=True):
        _panel(panel, cell)
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, fontsize=8, frameon=False, loc="outside upper center", ncols=3)
    axes_names(
        figure, "from one student to the other (thick: median of the pairs)", "loss / teacher's energy"
    )
    return {"paths": figure}


def _panel(panel: Axes, cell: dict[str, Any]) -> None:
    for path, colour, label in PATHS:
        losses = np.maximum(np.array(cell[path]["loss"]), LEAST)
        places = np.array(cell[path]["places"]) / len(cell[path]["segments"])
        for row in losses:
            panel.plot(places, row, color=colour, linewidth=0.5, alpha=0.45)
        panel.plot(places, np.median(losses, 0), color=colour, linewidth=1.8, label=label)
    for border in range(1, len(cell["half"]["segments"])):
        panel.axvline(border / len(cell["half"]["segments"]), color=QUIET, linewidth=0.5, linestyle=":")
    panel.set_yscale("log")
    panel.yaxis.set_minor_formatter("")
    panel.set_xlim(0, 1)
    panel.tick_params(axis="x", colors=INK)
    remark = f"{cell['width']} nodes" if cell["width"] else "two convolutions"
    dress(panel, f"{cell['kind']}, {cell['over']}x", remark)
