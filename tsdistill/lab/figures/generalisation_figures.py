"""Figures of the experiment generalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tsdistill.lab.engine.node_statistics import rank_correlation
from tsdistill.lab.results import Outcome
from tsdistill.report.canvas import axes_names, dress, grid

MARKERS = ("o", "s", "^", "D", "v", "P")


def draw(outcome: Outcome) -> dict[str, Figure]:
    """Alignment and training loss against the loss on fresh inputs; agreement on shifted inputs."""
    cells = outcome.data["cells"]
    return {"prediction": _prediction(cells), "shifted": _shifted(cells)}


def _colours(cells: list[dict[str, Any]]) -> dict[int, Any]:
    counts = sorted({cell["samples"] for cell in cells})
    return {count: colormaps["viridis"](0.9 * k / max(1, len(counts) - 1)) for k, count in enumerate(counts)}


def _scatter(panel: Axes, cells: list[dict[str, Any]], across: Any, up: Any, *, legend: bool = False) -> str:
    """Draw a dot for each run; returns the rank correlation as a remark."""
    colours = _colours(cells)
    widths = sorted({cell["over"] for cell in cells})
    for cell in cells:
        marker = MARKERS[widths.index(cell["over"]) % len(MARKERS)]
        panel.scatter(
            across(cell),
            up(cell),
            s=13,
            marker=marker,
            facecolor=colours[cell["samples"]],
            linewidth=0,
            alpha=0.8,
        )
    if legend:
        for count, colour in colours.items():
            panel.scatter([], [], s=16, color=colour, label=f"N = {count}")
        for width, marker in zip(widths, MARKERS, strict=False):
            panel.scatter([], [], s=16, marker=marker, color="#8a8a8a", label=f"{width}x")
    every = [np.concatenate([np.asarray(read(cell), float) for cell in cells]) for read in (across, up)]
    return f"rank correlation {rank_correlation(*every):.2f}"


def _prediction(cells: list[dict[str, Any]]) -> Figure:
    figure, panels = grid(2)

    def missing(cell: dict[str, Any]) -> np.ndarray:
        return np.maximum(1 - np.array(cell["alignment"]), 1e-9)

    for panel, read, title, legend in (
        (panels[0], missing, "1 - alignment on the training inputs", True),
        (panels[1], lambda cell: np.maximum(cell["training"], 1e-16), "training loss", False),
    ):
        remark = _scatter(
            panel, cells, read, lambda cell: np.maximum(cell["evaluation"], 1e-16), legend=legend
        )
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel(title, fontsize=9)
        dress(panel, "", remark)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside right center")
    axes_names(figure, "", "loss on fresh inputs / teacher's energy")
    return figure


def _shifted(cells: list[dict[str, Any]]) -> Figure:
    names = list(cells[0]["shifted"])
    figure, panels = grid(len(names))
    for panel, name in zip(panels, names, strict=True):
        remark = _scatter(
            panel,
            cells,
            lambda cell: cell["alignment"],
            lambda cell, name=name: cell["shifted"][name]["agreement"],
        )
        dress(panel, name, remark)
    axes_names(
        figure, "alignment on the training inputs", "agreement with the teacher", "inputs of other kinds"
    )
    return figure
