"""Figures of a report, drawn without a display and written as PNG, SVG or PDF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tsdistill.alignment.report import AlignmentReport, GroupReport
from tsdistill.errors import TsdistillError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

COLUMNS = 4
_INK = "#333333"
_QUIET = "#8a8a8a"


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    chosen = _chosen(report, groups)
    columns = min(len(chosen), COLUMNS)
    rows = math.ceil(len(chosen) / columns)
    alone = columns == 1
    figure = Figure(
        figsize=(7.0, 4.6) if alone else (3.4 * columns + 0.8, 2.8 * rows + 0.8), layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    shares = Normalize(0.0, 1.0)
    for panel, group in zip(panels.flat, chosen, strict=False):
        _panel(panel, group, report.thresholds.aligned, shares, small=not alone)
    for panel in panels.flat[len(chosen) :]:
        panel.set_visible(False)
    whose = "teacher" if report.has_teacher else "other"
    figure.supxlabel(f"{report.metric} with the best-matching {whose} node", fontsize=10.5, color=_INK)
    figure.supylabel("fan-out norm of the standardised node  ‖v‖·σ", fontsize=10.5, color=_INK)
    bar = figure.colorbar(ScalarMappable(shares, "viridis"), ax=panels, fraction=0.04, pad=0.02, aspect=28)
    bar.set_label("strength (share of the group's largest)", fontsize=9, color=_INK)
    bar.ax.tick_params(labelsize=8, colors=_INK)
    for spine in bar.ax.spines.values():
        spine.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=12, color=_INK)
    return figure


def save_l_curve(
    report: AlignmentReport, path: str | Path, groups: Sequence[str] | None = None, *, title: str = ""
) -> Path:
    """Draw the L-shaped curve to ``path`` in one step (see `l_curve_figure`).

    Raises:
        TsdistillError: an unknown group, or ``path`` cannot be written or has a suffix of no picture format.
    """
    path = Path(path)
    figure = l_curve_figure(report, groups, title=title)
    beside = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        figure.savefig(beside, dpi=160)
        beside.replace(path)
    except (OSError, ValueError) as error:
        raise TsdistillError(f"the figure {path} cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return path


def _chosen(report: AlignmentReport, groups: Sequence[str] | None) -> list[GroupReport]:
    known = report.by_name
    for name in groups or ():
        if name not in known:
            raise TsdistillError(f"there is no group {name!r} to draw; groups are {', '.join(known)}")
    return [known[name] for name in groups] if groups else list(report.groups)


def _panel(panel: Axes, group: GroupReport, aligned: float, shares: Normalize, *, small: bool) -> None:
    largest = float(group.strength.max(initial=0.0))
    share = group.strength / largest if largest > 0 else np.zeros(group.size)
    order = np.argsort(share)
    panel.axvline(aligned, color=_QUIET, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
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
    count = int(group.aligned.sum())
    panel.set_title(group.name, fontsize=9 if small else 10.5, color=_INK, loc="left")
    panel.set_title(
        f"{count} of {group.size} aligned", fontsize=8 if small else 9.5, color=_QUIET, loc="right"
    )
    panel.grid(color="#e9e9e9", linewidth=0.7)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8, colors=_INK, length=3)
    for side, spine in panel.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_QUIET)
