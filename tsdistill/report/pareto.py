"""What a sweep gives against what it costs: one line a metric, the dense model marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tsdistill.errors import TsdistillError
from tsdistill.evaluation import Comparison
from tsdistill.pruning.accuracy_search import DropResult
from tsdistill.pruning.budget_sweep import DENSE, Sweep
from tsdistill.pruning.selection.budget import amount as budget_amount
from tsdistill.pruning.selection.cost import cost_of
from tsdistill.report.canvas import ALIGNED, INK, QUIET, dress, grid, literal, save
from tsdistill.report.comparison_figure import axis_title, cost_ticks
from tsdistill.report.comparison_table import figure, metric_title
from tsdistill.report.numbers import amount, seconds, share, size
from tsdistill.report.table_layout import table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KINDS: dict[str, tuple[str, Callable[[float], str]]] = {
    "macs": ("MACs", amount),
    "params": ("parameters", amount),
    "nodes": ("prunable nodes", amount),
    "latency": ("latency at batch 1", seconds),
    "memory": ("peak memory", size),
}
"""Costs that a sweep may go over, in words, and how amounts of them are written; others are written as their
budgets are."""

_COLOURS = (ALIGNED, "#c1762b", "#4f8f5b")


def pareto_figure(sweep: Sweep, *, title: str = "") -> Figure:
    """The first metric, and others in percent where it is (top-5 aside), against what the budgets count.

    A dot a budget; the diamond and the dashed line are the dense model.

    Args:
        sweep: what `tsdistill.sweep` returned.
        title: over the figure.

    Raises:
        TsdistillError: the sweep has no metrics.
    """
    names = _drawn(sweep.comparison)
    label, show = _kind(sweep)
    drawing, (panel,) = grid(1)
    for name, colour in zip(names, _COLOURS, strict=False):
        heights = [metrics[name] for metrics in sweep.comparison.metrics]
        _line(panel, sweep.amounts, heights, colour, axis_title(sweep.comparison, name, DENSE))
    _budgets(panel, sweep, [metrics[names[0]] for metrics in sweep.comparison.metrics])
    panel.set_xlim(0, 1.12 * max(sweep.amounts))
    panel.margins(y=0.12)
    cost_ticks(panel, show)
    panel.set_xlabel(label, fontsize=10, color=INK)
    alone = len(names) == 1
    unit = sweep.comparison.traits[names[0]].unit
    panel.set_ylabel(
        literal(axis_title(sweep.comparison, names[0], DENSE) if alone else unit), fontsize=10, color=INK
    )
    if not alone:
        drawing.legend(
            loc="outside lower center", ncols=len(names), fontsize=9, frameon=False, labelcolor=INK
        )
    dress(panel, title, small=False)
    return drawing


def save_pareto(sweep: Sweep, path: str | Path, *, title: str = "") -> Path:
    """Draw a sweep to ``path`` in one step (see `pareto_figure`).

    Args:
        sweep: the result of `tsdistill.sweep`.
        path: the picture to write; its suffix names the format.
        title: text over the figure.

    Raises:
        TsdistillError: no metrics, or ``path`` cannot be written or has a suffix of no picture format.
    """
    return save(pareto_figure(sweep, title=title), Path(path))


def _kind(sweep: Sweep) -> tuple[str, Callable[[float], str]]:
    """What the budgets of a sweep count, in words, and how amounts of it are written."""
    words = cost_of(sweep.kind).amounts.words
    return _KINDS.get(sweep.kind) or (
        words,
        lambda value: budget_amount(sweep.kind, value).removesuffix(f" {words}").removesuffix(" of"),
    )


def _drawn(compared: Comparison) -> list[str]:
    known = list(compared.figures)
    if not known:
        raise TsdistillError("the sweep has no metric to draw against the budgets; sweep with data")
    unit = compared.traits[known[0]].unit
    percent = [name for name in known if compared.traits[name].unit == unit == "%" and name != "top5"]
    return percent or known[:1]


def _line(panel: Axes, across: Sequence[float], up: Sequence[float], colour: str, label: str) -> None:
    points = sorted(zip(across, up, strict=True))
    panel.plot(*zip(*points, strict=True), color=colour, linewidth=1.4, zorder=2)
    panel.scatter(across[1:], up[1:], s=38, color=colour, linewidths=0.6, edgecolors="white", zorder=3)
    panel.scatter(across[:1], up[:1], s=48, color=colour, marker="D", linewidths=0, zorder=3)
    panel.axhline(up[0], color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    panel.plot([], [], color=colour, marker="o", markersize=5, linewidth=1.4, label=literal(label))


def _budgets(panel: Axes, sweep: Sweep, up: Sequence[float]) -> None:
    """Write the budgets to the right of and below their points, where a falling curve leaves room."""
    below = -13 if sweep.comparison.traits[_drawn(sweep.comparison)[0]].higher_is_better else 7
    for x, y, name in zip(sweep.amounts, up, sweep.comparison.names, strict=True):
        panel.annotate(
            literal(name), (x, y), (4, below), textcoords="offset points", fontsize=8.5, color=INK, zorder=4
        )


def sweep_table(sweep: Sweep) -> Group:
    """A row a budget, the dense model first: what is left, and what the metrics say."""
    compared = sweep.comparison
    label, show = _kind(sweep)
    headers = [metric_title(name, compared.names[0]).replace(" ", "\n") for name in compared.figures]
    costs: dict[str, tuple[Sequence[float], Callable[[float], str]]] = {
        "MACs": (compared.macs, amount),
        "parameters": (compared.params, amount),
        "latency,\nbatch 1": (compared.latency, seconds),
    }
    if sweep.kind not in ("macs", "params", "latency"):
        costs = {label: (sweep.amounts, show), **costs}
    heads = [head for name in costs for head in (name, "")]
    rows = table(f"Sweep over {label}", "<", *heads, *headers)
    for place, name in enumerate(compared.names):
        cells = []
        for values, written in costs.values():
            cells += [written(values[place]), share(values[place], values[0]) if place else ""]
        figures = [figure(compared, metric, compared.metrics[place][metric]) for metric in compared.figures]
        rows.add_row(name, *cells, *figures)
    source = [f"Measured on {sweep.measured_on}: {compared.data}"] if compared.data else []
    return Group(rows, Text("\n".join([*source, *(f"note    {note}" for note in sweep.notes)])))


def trials_table(result: DropResult) -> Table:
    """Every cut that a search tried: a row a trial."""
    unit = f" {result.unit}" if result.unit else ""
    rows = table(f"Cuts tried: {result.metric}", "MACs kept", f"<{result.metric}", "<loss", "<")
    rows.add_row("dense", f"{result.dense_figure:.4g}{unit}", "", f"at most {result.max_drop:.4g}{unit} lost")
    for trial in result.trials:
        if trial.kept is None or trial.figure is None or trial.drop is None:
            rows.add_row(share(trial.macs, 1), "", "", "cannot be cut so far")
            continue
        chosen = trial.allowed and trial.figure == result.figure
        verdict = "written" if chosen else "allowed" if trial.allowed else "too much"
        rows.add_row(share(trial.kept, 1), f"{trial.figure:.4g}{unit}", f"{trial.drop:.4g}{unit}", verdict)
    return rows
