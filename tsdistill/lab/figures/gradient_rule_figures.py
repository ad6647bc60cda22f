"""Figures of gradient-rule."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tsdistill.lab.figures.colours import SEVERAL, name_axes
from tsdistill.lab.results import Outcome
from tsdistill.report.canvas import INK, QUIET, dress, grid


def draw(outcome: Outcome) -> dict[str, Figure]:
    """Lemma 1 against autograd, its two terms during a training, and E[α] and E[β] before and after it."""
    figure, (errors, shares) = grid(2)
    figure.set_size_inches(10.5, 4.4)
    _errors(errors, outcome.data["families"])
    _shares(shares, outcome.data["course"])
    return {"gradient-rule": figure, "top-down-modulation": _modulation(outcome.data)}


def _errors(panel: Axes, families: Any) -> None:
    labels = list(dict.fromkeys(item["family"] for item in families))
    for act, colour in zip(dict.fromkeys(item["act"] for item in families), SEVERAL, strict=False):
        errors = [item for item in families if item["act"] == act]
        for item in errors:
            row = labels.index(item["family"]) + (0.14 if colour != SEVERAL[0] else -0.14)
            known = [max(value, 1e-17) for value in item["errors"]]
            panel.scatter(known, [row] * len(known), s=15, color=colour, linewidths=0, alpha=0.85)
        panel.scatter([], [], s=18, color=colour, label=act)
    panel.axvline(np.finfo(np.float64).eps, color=QUIET, linewidth=0.9, linestyle="--")
    panel.annotate(
        "float64",
        (np.finfo(np.float64).eps, -0.75),
        (3, 0),
        textcoords="offset points",
        fontsize=8,
        color=QUIET,
    )
    panel.set_xscale("log")
    panel.set_xlim(1e-17, 1e-13)
    panel.set_yticks(range(len(labels)), labels)
    panel.invert_yaxis()
    panel.legend(fontsize=8, frameon=False, labelcolor=INK, loc="lower right")
    panel.set_xlabel("largest relative difference to autograd", fontsize=9, color=INK)
    dress(panel, "Lemma 1 and autograd", "a dot a layer", lines="x")


def _shares(panel: Axes, course: Any) -> None:
    steps = [max(row["step"], 0.7) for row in course]
    for place, colour in zip(range(len(course[0]["layers"])), SEVERAL, strict=False):
        for part, style, width in ((0, "--", 1.2), (1, ":", 1.6), (2, "-", 1.6)):
            panel.plot(
                steps,
                [row["layers"][place][part] for row in course],
                color=colour,
                linestyle=style,
                linewidth=width,
            )
        panel.plot([], [], color=colour, linewidth=1.6, label=f"layer {place + 1}")
    for label, style in (
        ("D A f*: the teacher's share", "--"),
        ("D B f: the student's own", ":"),
        ("g, their difference", "-"),
    ):
        panel.plot([], [], color=INK, linestyle=style, linewidth=1.3, label=label)
    panel.set_xscale("log")
    panel.set_yscale("log")
    name_axes(panel, "training step", "root mean square over samples", size=9)
    panel.legend(fontsize=8, frameon=False, labelcolor=INK, loc="lower left")
    dress(panel, "The two shares cancel while a student learns")


def _modulation(data: Any) -> Figure:
    figure, panels = grid(4)
    for place, (key, when) in enumerate((("start", "before training"), ("end", "after training"))):
        products = data[key]
        alpha, beta = np.array(products["alpha"]), np.array(products["beta"])
        students = [f"{value:.2f}" for value in products["best"]]
        _heat(panels[2 * place], alpha, f"E[α] {when}", "teacher node", students)
        _heat(panels[2 * place + 1], beta, f"E[β] {when}", "student node", students)
    return figure


def _heat(panel: Axes, values: Any, title: str, across: str, students: list[str]) -> None:
    top = float(np.abs(values).max()) or 1.0
    image = panel.imshow(values, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto", interpolation="nearest")
    bar = panel.figure.colorbar(image, ax=panel, shrink=0.85, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    panel.set_xticks(range(values.shape[1]), [str(j + 1) for j in range(values.shape[1])])
    panel.set_yticks(range(len(students)), students)
    name_axes(panel, across, "student node, by its best correlation", size=8.5)
    dress(panel, title, lines="")
    panel.tick_params(labelsize=6.5)
