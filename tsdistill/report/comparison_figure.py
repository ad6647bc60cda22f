"""What models give against what they cost: a figure of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tsdistill.errors import TsdistillError
from tsdistill.evaluation import Comparison
from tsdistill.report.canvas import ALIGNED, INK, QUIET, dress, grid, literal, save
from tsdistill.report.comparison_table import metric_title, short_names
from tsdistill.report.numbers import amount, seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

Side = Literal["left", "center", "right"]

_AXES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("macs", "MACs", amount),
    ("latency", "latency at batch 1", seconds),
)
_PLACES: tuple[tuple[int, int, Side], ...] = tuple(
    place
    for up in (11, -11, 22, -22, 33, -33, 44, -44)
    for place in ((0, up, "center"), (4, up, "left"), (-4, up, "right"))
)
"""Offsets of a label from its point, in points, and where it is flushed; the first that is free is taken."""


def comparison_figure(compared: Comparison, metric: str | None = None, *, title: str = "") -> Figure:
    """A metric against MACs and against latency, a dot a model; the line is the first model.

    Half of the timed passes lie within the whiskers of the latency.

    Args:
        compared: what `tsdistill.compare` returned.
        metric: the first of the comparison without it.
        title: over the figure.

    Raises:
        TsdistillError: there are no metrics, or not this one.
    """
    known = compared.figures
    chosen = metric or next(iter(known), None)
    if chosen is None:
        raise TsdistillError("there is nothing to draw against the costs; compare with data")
    if chosen not in known:
        raise TsdistillError(f"there is no metric {chosen!r} to draw; metrics are {', '.join(known)}")
    names = short_names(compared.names)
    figure, panels = grid(len(_AXES), alone=(7.0, 4.6))
    figure.set_size_inches(11, 4.4)
    heights = [metrics[chosen] for metrics in compared.metrics]
    for panel, (cost, label, show) in zip(panels, _AXES, strict=True):
        spreads = compared.latency_spread if cost == "latency" else ()
        _panel(panel, getattr(compared, cost), heights, spreads)
        cost_ticks(panel, show)
        panel.set_xlabel(label, fontsize=9.5, color=INK)
        dress(panel, "", small=False)
    panels[0].set_ylabel(literal(axis_title(compared, chosen, names[0])), fontsize=9.5, color=INK)
    if title:
        figure.suptitle(literal(title), fontsize=12, color=INK)
    for panel, (cost, _, _) in zip(panels, _AXES, strict=True):
        _label(figure, panel, list(zip(getattr(compared, cost), heights, strict=True)), names)
    return figure


def save_comparison(
    compared: Comparison, path: str | Path, metric: str | None = None, *, title: str = ""
) -> Path:
    """Draw a comparison to ``path`` in one step (see `comparison_figure`).

    Args:
        compared: the result of `tsdistill.compare`.
        path: the picture to write; its suffix names the format.
        metric: name of the metric; the first one by default.
        title: text over the figure.

    Raises:
        TsdistillError: no such metric, or ``path`` cannot be written or has a suffix of no picture format.
    """
    return save(comparison_figure(compared, metric, title=title), Path(path))


def cost_ticks(panel: Axes, show: Callable[[float], str]) -> None:
    """Write the numbers of the horizontal axis by ``show``."""
    panel.xaxis.set_major_formatter(lambda value, _: show(value) if value else "0")


def axis_title(compared: Comparison, metric: str, first: str) -> str:
    """A metric for the axis of a figure: its title, its unit, and that lower is better where it is.

    Args:
        compared: the comparison, which knows how figures are read.
        metric: name of the metric.
        first: what the first model is called.
    """
    traits = compared.traits.get(metric)
    unit = f" ({traits.unit})" if traits and traits.unit else ""
    better = "" if traits is None or traits.higher_is_better else "; lower is better"
    return f"{metric_title(metric, first)}{unit}{better}"


def _panel(panel: Axes, across: Sequence[float], up: Sequence[float], spreads: Sequence[float]) -> None:
    panel.axhline(up[0], color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    panel.scatter(across[1:], up[1:], s=40, color=ALIGNED, linewidths=0.5, edgecolors="white", zorder=3)
    panel.scatter(across[:1], up[:1], s=44, color=INK, marker="D", linewidths=0, zorder=3)
    if spreads:
        panel.errorbar(across, up, xerr=spreads, fmt="none", ecolor=QUIET, elinewidth=1.0, zorder=2)
    ends = [value + min(spread, 0.2 * value) for value, spread in zip_longest(across, spreads, fillvalue=0.0)]
    panel.set_xlim(0, 1.08 * max(ends) or 1.0)
    low, high = min(up), max(up)
    room = 0.12 * (high - low) or 0.05 * abs(high) or 1.0
    panel.set_ylim(low - room, high + room)


def _label(figure: Figure, panel: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Write the names above or below their points, where no other name, no point and no line is."""
    from matplotlib.transforms import Bbox

    figure.canvas.draw()
    inside = panel.get_window_extent()
    _, level = panel.transData.transform(points[0])
    taken = [_around(panel, point) for point in points]
    taken.append(Bbox.from_extents(inside.x0, level - 1, inside.x1, level + 1))
    for point, name in zip(points, names, strict=True):
        note = panel.annotate(
            literal(name), point, (8, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK
        )
        note.set_in_layout(False)
        free = next((p for p in _PLACES if _fits(_placed(note, p), inside, taken)), _PLACES[0])
        taken.append(_placed(note, free))


def _around(panel: Axes, point: tuple[float, float]) -> Bbox:
    from matplotlib.transforms import Bbox

    x, y = panel.transData.transform(point)
    return Bbox.from_extents(x - 7, y - 7, x + 7, y + 7)


def _placed(note: Annotation, place: tuple[int, int, Side]) -> Bbox:
    across, up, side = place
    note.set_position((across, up))
    note.set_horizontalalignment(side)
    return note.get_window_extent()


def _fits(box: Bbox, inside: Bbox, taken: Sequence[Bbox]) -> bool:
    within = box.x0 >= inside.x0 and box.x1 <= inside.x1 and box.y0 >= inside.y0 and box.y1 <= inside.y1
    return within and not any(box.overlaps(other) for other in taken)
