"""Figures of deep: the L-shaped curve of every layer over training."""

from __future__ import annotations

from matplotlib.figure import Figure

from tsdistill.lab import Outcome
from tsdistill.lab.engine.node_statistics import ALIGNED
from tsdistill.lab.figures.colours import blue_shades
from tsdistill.report.canvas import ALIGNED as COLOUR
from tsdistill.report.canvas import GRID, UNALIGNED, axes_names, dress, grid


def draw(outcome: Outcome) -> dict[str, Figure]:
    """``deep``: strength against correlation, start to end; ``deep-alignment``: each layer over the steps."""
    return {"deep": _curves(outcome), "deep-alignment": _alignment(outcome)}


def _curves(outcome: Outcome) -> Figure:
    moments = outcome.data["moments"]
    half = min(moments, key=lambda each: abs(each["step"] - moments[-1]["step"] / 4))
    layers = len(moments[-1]["layers"])
    shown = (moments[0], half, moments[-1])
    figure, panels = grid(layers)
    for layer, panel in enumerate(panels):
        for moment, colour, size in zip(shown, (GRID, UNALIGNED, COLOUR), (5, 5, 7), strict=True):
            x, y = zip(*moment["layers"][layer]["points"], strict=True)
            panel.scatter(x, y, s=size, color=colour, linewidths=0, label=f"{moment['step']:,} steps")
        panel.axvline(ALIGNED, color=GRID, linewidth=1.2, zorder=0)
        panel.set_xlim(-0.05, 1.05)
        last = moments[-1]["layers"][layer]
        dress(panel, f"layer {layer + 1}", f"{last['found']:.0%} of teacher nodes aligned")
    panels[0].legend(fontsize=7, frameon=False)
    title = "The L-shaped curve in every layer"
    axes_names(figure, "correlation with the best teacher node", "strength, sqrt E[β] · σ", title)
    return figure


def _alignment(outcome: Outcome) -> Figure:
    moments = outcome.data["moments"]
    steps = [moment["step"] for moment in moments]
    figure, (panel,) = grid(1)
    layers = len(moments[-1]["layers"])
    for layer, colour in enumerate(reversed(blue_shades(layers))):
        matched = [moment["layers"][layer]["matched"] for moment in moments]
        panel.plot(steps, matched, "o-", markersize=3, color=colour, label=f"layer {layer + 1}")
    panel.set_ylim(0, 1.04)
    panel.legend(fontsize=8, frameon=False)
    dress(panel, "Teacher nodes over training", f"relative loss {max(moments[-1]['loss']):.1e}", small=False)
    axes_names(figure, "steps", "mean best correlation")
    return figure
