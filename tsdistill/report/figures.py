"""Figures of a report, drawn without a display and written as PNG, SVG or PDF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tsdistill.errors import TsdistillError
from tsdistill.report.curve import ALIGNED, Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
_INK = "#333333"
_QUIET = "#8a8a8a"


def l_curve_figure(curves: Sequence[Curve], *, title: str = "", teacher: str = "teacher") -> Figure:
    """The L-shaped curve, one panel a group: a dot a node, coloured by its strength.

    Args:
        curves: the groups; four panels a row.
        title: over the figure.
        teacher: whose nodes the best match is looked for among, for the axis ("teacher", "other").

    Raises:
        TsdistillError: there is no group to draw.
    """
    if not curves:
        raise TsdistillError("there is no group to draw the L-shaped curve of")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    columns = min(len(curves), COLUMNS)
    rows = math.ceil(len(curves) / columns)
    width = 7.0 if columns == 1 else 3.4 * columns + 0.8
    figure = Figure(figsize=(width, 4.6 if columns == 1 else 2.9 * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    norm = Normalize(0.0, 1.0)
    for panel, curve in zip(panels.flat, curves, strict=False):
        _panel(panel, curve, norm, small=columns > 1)
    for panel in panels.flat[len(curves) :]:
        panel.set_visible(False)
    figure.supxlabel(f"correlation with the best-matching {teacher} node", fontsize=10.5, color=_INK)
    figure.supylabel("fan-out norm of the standardised node  ‖v‖·σ", fontsize=10.5, color=_INK)
    bar = figure.colorbar(ScalarMappable(norm, "viridis"), ax=panels, fraction=0.04, pad=0.02, aspect=28)
    bar.set_label("strength (share of the group's largest)", fontsize=9, color=_INK)
    bar.ax.tick_params(labelsize=8, colors=_INK)
    bar.outline.set_visible(False)  # type: ignore[operator]
    if title:
        figure.suptitle(title, fontsize=12, color=_INK)
    return figure


def save_l_curve(
    curves: Sequence[Curve], path: str | Path, *, title: str = "", teacher: str = "teacher"
) -> Path:
    """Draw the L-shaped curve to ``path``, in one step (see `l_curve_figure`).

    Raises:
        TsdistillError: there is no group, or ``path`` cannot be written or has an unknown suffix.
    """
    path = Path(path)
    figure = l_curve_figure(curves, title=title, teacher=teacher)
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


def _panel(panel: Axes, curve: Curve, norm: object, *, small: bool) -> None:
    largest = float(curve.strength.max(initial=0.0))
    share = curve.strength / largest if largest > 0 else np.zeros_like(curve.strength)
    order = np.argsort(share)
    panel.axvline(ALIGNED, color=_QUIET, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    panel.scatter(
        curve.best[order],
        curve.norm[order],
        c=share[order],
        cmap="viridis",
        norm=norm,  # type: ignore[arg-type]
        s=16 if small else 34,
        alpha=0.85,
        linewidths=0.4,
        edgecolors="white",
        zorder=3,
        clip_on=False,
    )
    aligned = int((curve.best >= ALIGNED).sum())
    low = min(0.0, math.floor(float(curve.best.min(initial=0.0)) * 10) / 10)
    high = float(curve.norm.max(initial=0.0)) or 1.0
    panel.set_xlim(low - 0.02, 1.02)
    panel.set_ylim(-0.02 * high, 1.12 * high)
    size = 7.5 if small else 9.5
    panel.text(
        ALIGNED - 0.015,
        1.09 * high,
        f"{len(curve.best) - aligned} unaligned",
        ha="right",
        va="top",
        fontsize=size,
        color=_INK,
    )
    panel.text(
        ALIGNED - 0.015,
        1.01 * high,
        f"{aligned} aligned →",
        ha="right",
        va="top",
        fontsize=size,
        color=_INK,
    )
    panel.set_title(
        f"{curve.name}  ({len(curve.best)} nodes)", fontsize=9 if small else 10.5, color=_INK, loc="left"
    )
    panel.grid(color="#e9e9e9", linewidth=0.7)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8, colors=_INK, length=3)
    for side, spine in panel.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_QUIET)
