"""Figures of strong-first: correlation of teacher nodes over training, and their student nodes at the end."""

from __future__ import annotations

from matplotlib.figure import Figure

from tsdistill.lab import Outcome
from tsdistill.lab.engine.node_statistics import ALIGNED
from tsdistill.lab.figures.colours import blue_shades
from tsdistill.report.canvas import INK, axes_names, dress, grid


def draw(outcome: Outcome) -> dict[str, Figure]:
    """``strong-first``: correlation over steps; ``strong-first-gathering``: student nodes by strength."""
    return {"strong-first": _over_time(outcome), "strong-first-gathering": _gathering(outcome)}


def _over_time(outcome: Outcome) -> Figure:
    decays, at = outcome.data["decays"], outcome.data["at"]
    figure, panels = grid(len(decays))
    for each, panel in zip(decays, panels, strict=True):
        count = len(each["strength"])
        for j, colour in enumerate(reversed(blue_shades(count))):
            panel.plot(at, each["correlation"][j], color=colour, label=f"{each['strength'][j]:.2g}")
        panel.axhline(ALIGNED, color=INK, linewidth=0.6, linestyle=":")
        panel.set_ylim(0, 1.04)
        dress(
            panel, f"p = {each['decay']:g}", f"order {each['order']:.2f}" if each["order"] is not None else ""
        )
        if each["decay"]:
            panel.legend(fontsize=6, frameon=False, title="strength", title_fontsize=6, loc="lower right")
    title = "Strong teacher nodes are learnt first"
    axes_names(figure, "steps", "best correlation with a student node, mean", title)
    return figure


def _gathering(outcome: Outcome) -> Figure:
    decays = outcome.data["decays"]
    figure, panels = grid(len(decays))
    for each, panel, colour in zip(decays, panels, blue_shades(len(decays)), strict=True):
        across = each["strength"] if each["decay"] else range(1, len(each["strength"]) + 1)
        panel.errorbar(
            across,
            each["owned"],
            yerr=each["spread"],
            fmt="o",
            markersize=4,
            color=blue_shades(1)[0],
            ecolor=colour,
        )
        panel.set_ylim(bottom=0)
        dress(panel, f"p = {each['decay']:g}", "" if each["decay"] else "by index: all as strong")
    title = "Strong teacher nodes gather more student nodes"
    axes_names(figure, "strength of the teacher node", "aligned student nodes at the end", title)
    return figure
