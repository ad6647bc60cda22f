"""Paper figures: a grid of panels in the house style, and writing them in one step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tsdistill.alignment.report import AlignmentReport, GroupReport
from tsdistill.errors import TsdistillError
from tsdistill.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Lines = Literal["both", "x", "y", ""]

COLUMNS = 4
"""Panels in one row of a figure: 3.4 inches each, which keeps a row within a wide page."""

INK = "#333333"
QUIET = "#8a8a8a"
GRID = "#e9e9e9"
ALIGNED = "#2f77b4"
UNALIGNED = "#c3cbd5"
_UNDATED = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""Metadata that matplotlib leaves out, by file suffix: dates would make equal figures differ in bytes."""


def chosen(report: AlignmentReport, groups: Sequence[str] | None) -> list[GroupReport]:
    """The named groups, all of them without names.

    Raises:
        TsdistillError: a group that the report does not have.
    """
    known = report.by_name
    for name in groups or ():
        if name not in known:
            raise TsdistillError(f"there is no group {name!r} to draw; groups are {', '.join(known)}")
    return [known[name] for name in groups] if groups else list(report.groups)


def grid(count: int, *, alone: tuple[float, float] = (7.0, 4.6)) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, four a row; a single panel is ``alone`` inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(count, COLUMNS)
    rows = math.ceil(count / columns)
    size = alone if columns == 1 else (3.4 * columns + 0.8, 2.8 * rows + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels[:count]


def dress(panel: Axes, title: str, remark: str = "", *, small: bool = True, lines: Lines = "both") -> None:
    """Style a panel: title on the left, a remark on the right, grey spines and a grid.

    Args:
        panel: the axes.
        title: text over the panel, flushed left.
        remark: text over the panel, flushed right.
        small: use the smaller type of a figure with several panels.
        lines: the axes with grid lines.
    """
    panel.set_title(literal(title), fontsize=9 if small else 10.5, color=INK, loc="left")
    panel.set_title(literal(remark), fontsize=8 if small else 9.5, color=QUIET, loc="right")
    if lines:
        panel.grid(color=GRID, linewidth=0.7, axis=lines)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8, colors=INK, length=3)
    for side, spine in panel.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(QUIET)


def axes_names(figure: Figure, across: str, up: str, title: str = "") -> None:
    """Label the axes of all panels.

    Args:
        figure: the figure.
        across: label of the horizontal axes.
        up: label of the vertical axes.
        title: text over the figure; none if empty.
    """
    figure.supxlabel(literal(across), fontsize=10.5, color=INK)
    figure.supylabel(literal(up), fontsize=10.5, color=INK)
    if title:
        figure.suptitle(literal(title), fontsize=12, color=INK)


def literal(text: str) -> str:
    """Text with its dollar signs escaped for matplotlib."""
    return text.replace("$", r"\$")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure to ``path``: the same bytes for the same figure, so without a date.

    Raises:
        TsdistillError: ``path`` cannot be written or has a suffix of no picture format.
    """
    from matplotlib import rc_context

    with atomic_file(path, ValueError) as temporary, rc_context({"svg.hashsalt": "tsdistill"}):
        figure.savefig(temporary, dpi=160, metadata=_UNDATED.get(path.suffix.lower()))
    return path
