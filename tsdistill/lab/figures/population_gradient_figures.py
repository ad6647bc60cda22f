"""Figures of population-gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tsdistill.lab.figures.colours import SEVERAL, WARM, name_axes
from tsdistill.lab.figures.convergence_basin import basin
from tsdistill.lab.figures.phase_portrait import manifolds, phase_portrait
from tsdistill.lab.results import Outcome
from tsdistill.report.canvas import ALIGNED, INK, QUIET, UNALIGNED, dress, grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(outcome: Outcome) -> dict[str, Figure]:
    """The formula, the basin of one node, two nodes, symmetry breaking, and the manifolds."""
    data = outcome.data
    return {
        "population-gradient": _formula(data),
        "one-node-basin": basin(data),
        "two-node-phase": phase_portrait(data["phase"]),
        "symmetry-breaking": _symmetry(data["symmetry"]),
        "critical-manifolds": manifolds(data["manifolds"]),
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
    name_axes(times, "size ε of the perturbation", "time until they are told apart")
    times.legend(fontsize=8, frameon=False, labelcolor=INK)
    dress(times, "Time to break", "dashed: slope 1/λ of the saddle")
    return figure


def _law(run: Any, sizes: list[float]) -> list[float]:
    """A line of the predicted slope through the middle of what was measured."""
    logs = -np.log(np.array(sizes)) / run["rate"]
    return [float(value) for value in logs - logs.mean() + np.mean([cell["time"] for cell in run["cells"]])]
