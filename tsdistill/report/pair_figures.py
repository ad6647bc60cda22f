"""Figures of the nodes of two groups: every pair, matches per teacher node, and weak to strong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tsdistill.alignment.matching.node_matching import LEVELS
from tsdistill.alignment.report import AlignmentReport, GroupReport
from tsdistill.report.canvas import ALIGNED, INK, QUIET, UNALIGNED, axes_names, chosen, dress, grid
from tsdistill.report.node_order import by_strength, heat_order, strength_bins

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BARS = 60
"""Teacher nodes up to which each has a bar of its own; more are drawn as one filled area."""


def matched_groups(report: AlignmentReport, groups: Sequence[str] | None = None) -> list[GroupReport]:
    """The named groups (all of them without names) whose nodes the report's own metric compares.

    Raises:
        TsdistillError: a group that the report does not have.
    """
    return [group for group in chosen(report, groups) if report.metric in group.matches]


def heat_figure(report: AlignmentReport, groups: Sequence[str] | None = None) -> Figure:
    """Every pair of nodes as a heat map, ordered by match, at most 128 by 128 (see `ordering.heat_order`)."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    drawn = matched_groups(report, groups)
    figure, panels = grid(len(drawn), alone=(5.6, 5.0))
    own = not report.has_teacher
    tables = []
    for group in drawn:
        matches = group.matches[report.metric]
        rows, columns = heat_order(matches, group.teacher_strength, own=own)
        table = matches.table[np.ix_(rows, columns)].astype(np.float64)
        tables.append(np.where(rows[:, None] == columns[None, :], np.nan, table) if own else table)
    high = max((float(np.nanmax(np.abs(table), initial=0.0)) for table in tables), default=1.0) or 1.0
    negative = any(float(np.nanmin(table, initial=0.0)) < 0 for table in tables)
    scale = Normalize(-high if negative else 0.0, high)
    colours = "RdBu" if negative else "Blues"
    for panel, group, table in zip(panels, drawn, tables, strict=True):
        panel.imshow(table, cmap=colours, norm=scale, aspect="auto", interpolation="nearest")
        whole = table.shape == (group.size, group.teacher_size)
        remark = (
            "" if whole else f"{table.shape[0]} of {group.size}, {table.shape[1]} of {group.teacher_size}"
        )
        dress(panel, group.name, remark, small=len(drawn) > 1, lines="")
        panel.set_xticks([])
        panel.set_yticks([])
    axes_names(
        figure,
        "nodes, alike ones together" if own else "teacher nodes, strong to weak",
        "the same nodes" if own else "student nodes, by match",
    )
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=panels, fraction=0.04, pad=0.02, aspect=28)
    bar.set_label(report.metric, fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    return figure


def counts_figure(report: AlignmentReport, groups: Sequence[str] | None = None) -> Figure:
    """Student nodes per teacher node, strong to weak: at the level nearest to the threshold, and at 0.5."""
    from matplotlib.ticker import MaxNLocator

    drawn = matched_groups(report, groups)
    figure, panels = grid(len(drawn))
    nearest = int(np.argmin(np.abs(np.array(LEVELS) - report.thresholds.aligned)))
    for panel, group in zip(panels, drawn, strict=True):
        order = by_strength(group.teacher_strength)
        counts = group.matches[report.metric].counts[:, order]
        ranks = np.arange(1, len(order) + 1)
        for level, colour in ((0, UNALIGNED), (nearest, ALIGNED)):
            label = f"at {LEVELS[level]:g} or above"
            if len(order) <= _BARS:
                panel.bar(ranks, counts[level], width=0.8, color=colour, label=label)
            else:
                edges = np.arange(len(order) + 1) + 0.5
                panel.stairs(counts[level], edges, fill=True, color=colour, label=label, linewidth=0)
        panel.set_xlim(0.3, len(order) + 0.7)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        panel.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        without = int((counts[nearest] == 0).sum())
        dress(panel, group.name, f"{without} without", small=len(drawn) > 1, lines="y")
    own = not report.has_teacher
    axes_names(
        figure,
        "nodes, strong to weak" if own else "teacher nodes, strong to weak",
        "other nodes as alike" if own else "student nodes",
    )
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=9, frameon=False)
    return figure


def weak_to_strong_figure(report: AlignmentReport, groups: Sequence[str] | None = None) -> Figure:
    """Best similarity of every teacher node from weak to strong, and its mean in bins of equal count.

    arXiv 1909.13458 (Theorems 4 and 5): strong teacher nodes are learnt first.
    """
    drawn = matched_groups(report, groups)
    figure, panels = grid(len(drawn))
    for panel, group in zip(panels, drawn, strict=True):
        start = 0
        low = 0.0
        for nodes in strength_bins(group.teacher_strength):
            values = group.matches[report.metric].teacher_similarity[nodes]
            places = start + np.arange(len(nodes)) + 0.5
            panel.bar(
                start + len(nodes) / 2, values.mean(), width=0.86 * len(nodes), color=ALIGNED, alpha=0.8
            )
            if len(nodes) > 1:
                panel.scatter(places, values, s=4, color=INK, alpha=0.5, linewidths=0, zorder=3)
            low = min(low, float(values.min()))
            start += len(nodes)
        panel.axhline(report.thresholds.aligned, color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)))
        panel.set_ylim(1.05 * low, 1.03)
        panel.set_xticks([])
        mean = float(group.matches[report.metric].teacher_similarity.mean())
        dress(panel, group.name, f"mean {mean:.2f}", small=len(drawn) > 1, lines="y")
    axes_names(
        figure,
        "nodes, weak to strong" if not report.has_teacher else "teacher nodes, weak to strong",
        f"best {report.metric}",
    )
    return figure
