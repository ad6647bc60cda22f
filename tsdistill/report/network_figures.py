"""Figures of a network as a whole: its groups side by side, and how alignment grew over a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tsdistill.alignment.history import THIRDS
from tsdistill.alignment.report import AlignmentReport
from tsdistill.report.canvas import ALIGNED, INK, QUIET, UNALIGNED, axes_names, dress, grid, literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tsdistill.alignment.history import AlignmentHistory

_LINES = (("#1c2c66", "-", "o"), ("#2f8fae", "--", "s"), ("#7cc3b5", ":", "^"))


def overview_figure(report: AlignmentReport) -> Figure:
    """A bar a group, from input to output: aligned nodes and candidates; and how well it is matched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    groups = report.groups
    layout = ConstrainedLayoutEngine(wspace=0.06)
    figure = Figure(figsize=(8.6, 1.5 + 0.26 * len(groups)), layout=layout)
    FigureCanvasAgg(figure)
    shares, means = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1.3))
    places = np.arange(len(groups))
    words = ("aligned", "unaligned") if report.has_teacher else ("has a twin", "no twin")
    parts = (
        (words[0], ALIGNED, "", True, False),
        (f"{words[0]}, candidate", ALIGNED, "/////", True, True),
        (f"{words[1]}, candidate", UNALIGNED, "/////", False, True),
        (words[1], UNALIGNED, "", False, False),
    )
    left = np.zeros(len(groups))
    for label, colour, hatch, aligned, goes in parts:
        share = np.array([((g.aligned == aligned) & (g.candidate == goes)).mean() for g in groups])
        shares.barh(
            places, share, left=left, height=0.7, color=colour, hatch=hatch, label=label, edgecolor="white",
            linewidth=0,
        )  # fmt: skip
        left += share
    shares.set_yticks(places, [literal(f"{group.name}  ({group.size})") for group in groups])
    shares.set_ylim(len(groups) - 0.4, -0.6)
    shares.set_xlim(0, 1)
    shares.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    dress(shares, "Nodes", small=False, lines="x")
    matched = [(i, g.matches[report.metric]) for i, g in enumerate(groups) if report.metric in g.matches]
    figures = [float(m.teacher_similarity.mean()) for _, m in matched]
    means.scatter(figures, [i for i, _ in matched], s=26, color=ALIGNED, zorder=3, clip_on=False)
    means.set_xlim(min(0.0, *figures, 0.0), 1)
    dress(means, f"Mean best {report.metric}", small=False, lines="x")
    means.spines["left"].set_visible(False)
    means.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False, labelcolor=INK)
    return figure


def history_figure(history: AlignmentHistory) -> Figure:
    """Mean best similarity of strong, middle and weak teacher nodes over the checkpoints."""
    named = [("all groups", history.thirds())]
    if len(history.groups) > 1:
        named += [(group.name, group.thirds()) for group in history.groups]
    figure, panels = grid(len(named))
    places = np.arange(len(history.names))
    every = max(1, -(-len(places) // (10 if len(named) == 1 else 5)))
    for panel, (name, thirds) in zip(panels, named, strict=True):
        for third, (colour, dash, mark) in enumerate(_LINES):
            if not np.isnan(thirds[:, third]).all():
                panel.plot(
                    places, thirds[:, third], dash, color=colour, marker=mark, markersize=3.5, linewidth=1.8,
                    label=f"{THIRDS[third]} third",
                )  # fmt: skip
        panel.axhline(history.final.thresholds.aligned, color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)))
        panel.set_ylim(min(0.0, float(np.nanmin(thirds, initial=0.0))), 1.03)
        panel.set_xticks(
            places[::every], [literal(str(text)) for text in history.names[::every]], rotation=30
        )
        for label in panel.get_xticklabels():
            label.set_horizontalalignment("right")
        dress(panel, name, small=len(named) > 1)
    axes_names(figure, "checkpoint", f"mean best {history.metric} of teacher nodes")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3, fontsize=9, frameon=False)
    return figure
