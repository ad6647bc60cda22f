"""Figures of cifar10: correlation of each layer and evaluation loss over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from tsdistill.lab import Outcome
from tsdistill.report.canvas import INK, axes_names, dress, grid

COLOURS = ("#440154", "#31688e", "#35b779", "#e0a100", "#c44e52", "#8c564b")

Runs = Mapping[float, Sequence[Mapping[str, Any]]]


def draw(outcome: Outcome) -> dict[str, Figure]:
    """``alignment`` (a panel for each layer) and ``loss`` over epochs; thick lines are means over seeds."""
    runs: dict[float, list[Mapping[str, Any]]] = {}
    for run in outcome.data["runs"]:
        runs.setdefault(run["width"], []).append(run)
    return {"alignment": _alignment(runs, list(outcome.data["nodes"])), "loss": _loss(runs)}


def _alignment(runs: Runs, layers: Sequence[str]) -> Figure:
    figure, panels = grid(len(layers))
    for place, (panel, name) in enumerate(zip(panels, layers, strict=True), start=1):
        _lines(panel, runs, f"alignment/{name}")
        dress(panel, f"layer {place}")
        panel.set_ylim(0, 1.02)
        panel.locator_params(axis="x", integer=True)
    _legend(panels[0])
    axes_names(figure, "epoch", "mean best correlation of a teacher node")
    return figure


def _loss(runs: Runs) -> Figure:
    figure, (panel,) = grid(1, alone=(5.2, 3.6))
    _lines(panel, runs, "output_mse")
    panel.set_yscale("log")
    panel.yaxis.set_minor_formatter(FormatStrFormatter("%g"))
    panel.locator_params(axis="x", integer=True)
    dress(panel, "Evaluation loss of students", small=False)
    _legend(panel)
    axes_names(figure, "epoch", "squared error / variance")
    return figure


def _legend(panel: Axes) -> None:
    panel.legend(frameon=False, fontsize=8, title="over-realised", title_fontsize=8, labelcolor=INK)


def _lines(panel: Axes, runs: Runs, name: str) -> None:
    for place, (width, some) in enumerate(runs.items()):
        histories = [[epoch.get(name, np.nan) for epoch in run["epochs"]] for run in some]
        shortest = min(map(len, histories))
        values = np.array([each[:shortest] for each in histories], dtype=float)
        epochs, colour = np.arange(shortest), COLOURS[place % len(COLOURS)]
        panel.plot(epochs, values.T, color=colour, linewidth=0.7, alpha=0.35)
        panel.plot(epochs, values.mean(0), color=colour, linewidth=1.8, marker="o", markersize=3,
                   label=f"{width:g}x")  # fmt: skip
