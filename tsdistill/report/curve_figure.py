"""The L-shaped curve, drawn without a display and written as PNG, SVG or PDF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tsdistill.alignment.report import AlignmentReport, GroupReport
from tsdistill.report.canvas import INK, QUIET, axes_names, chosen, dress, grid, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure


def l_curve_figure(
    report: AlignmentReport, groups: Sequence[str] | None = None, *, title: str = ""
) -> Figure:
    """The L-shaped curve (arXiv 1909.13458), one panel a group: a dot a node, coloured by its strength.

    Args:
        report: what `tsdistill.analyze` returned.
        groups: names of the groups to draw, all by default; four panels a row.
        title: over the figure.

    Raises:
        TsdistillError: a group that the report does not have.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    drawn = chosen(report, groups)
    figure, panels = grid(len(drawn))
    shares = Normalize(0.0, 1.0)
    for panel, group in zip(panels, drawn, strict=True):
        _panel(panel, group, report.thresholds.aligned, shares, small=len(drawn) > 1)
    whose = "teacher" if report.has_teacher else "other"
    axes_names(
        figure,
        f"{report.metric} with the best-matching {whose} node",
        "fan-out norm of the standardised node  ‖v‖·σ",
        title,
    )
    bar = figure.colorbar(ScalarMappable(shares, "viridis"), ax=panels, fraction=0.04, pad=0.02, aspect=28)
    bar.set_label("strength (share of the group's largest)", fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    for spine in bar.ax.spines.values():
        spine.set_visible(False)
    return figure


def save_l_curve(
    report: AlignmentReport, path: str | Path, groups: Sequence[str] | None = None, *, title: str = ""
) -> Path:
    """Draw the L-shaped curve to ``path`` in one step (see `l_curve_figure`).

    Args:
        report: the result of `tsdistill.analyze`.
        path: the picture to write; its suffix names the format.
        groups: names of the groups to draw; all by default.
        title: text over the figure.

    Raises:
        TsdistillError: an unknown group, or ``path`` cannot be written or has a suffix of no picture format.
    """
    return save(l_curve_figure(report, groups, title=title), Path(path))


def _panel(panel: Axes, group: GroupReport, aligned: float, shares: Normalize, *, small: bool) -> None:
    largest = float(group.strength.max(initial=0.0))
    share = group.strength / largest if largest > 0 else np.zeros(group.size)
    order = np.argsort(share)
    panel.axvline(aligned, color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    panel.scatter(
        group.similarity[order],
        group.standardised_norm[order],
        c=share[order],
        cmap="viridis",
        norm=shares,
        s=16 if small else 34,
        alpha=0.85,
        linewidths=0.4,
        edgecolors="white",
        zorder=3,
        clip_on=False,
    )
    low = min(0.0, math.floor(float(group.similarity.min(initial=0.0)) * 10) / 10)
    high = float(group.standardised_norm.max(initial=0.0)) or 1.0
    panel.set_xlim(low - 0.02, 1.02)
    panel.set_ylim(-0.02 * high, 1.08 * high)
    dress(panel, group.name, f"{int(group.aligned.sum())} of {group.size} aligned", small=small)
