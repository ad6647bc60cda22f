"""The table of a training for a terminal, as rich renderables."""

from __future__ import annotations

import math

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tsdistill.alignment.history import THIRDS, AlignmentHistory
from tsdistill.report.table_layout import table

_BAR = 20
"""Steps of the line that shows similarities from 0 to 1: 0.05 each."""


def history_table(history: AlignmentHistory) -> Group:
    """A row a checkpoint: how well strong, middle and weak teacher nodes are matched, how many are aligned.

    With several groups a second table has a row a group: the checkpoints' first and last figures.
    """
    rows = table(
        "Over training",
        "<checkpoint",
        *THIRDS,
        "teacher nodes\naligned",
        "<strong ●  middle ◐  weak ○",
        close=True,
    )
    for name, row, aligned in zip(history.names, history.thirds(), history.aligned, strict=True):
        rows.add_row(
            name, *(_figure(value) for value in row), f"{aligned} of {history.teacher_nodes}", _bars(row)
        )
    caption = (
        f"Strong, middle, weak: thirds of the teacher's nodes by strength, mean {history.metric} with the "
        "best student node each."
    )
    first = history.strong_first()
    if not math.isnan(first):
        caption += (
            f" Strong ones first: {first:.2f} (rank correlation of a teacher node's strength with how early "
            "and how well it is learnt)."
        )
    return Group(rows, Text(), Text(caption), *(_by_group(history) if len(history.groups) > 1 else ()))


def _by_group(history: AlignmentHistory) -> tuple[Text, Table]:
    first, last = history.names[0], history.names[-1]
    rows = table(
        f"Over training by group, {first} → {last}",
        "<group",
        "teacher\nnodes",
        "aligned",
        *THIRDS,
        "strong\nfirst",
        close=True,
    )
    for group in history.groups:
        thirds = group.thirds()
        rows.add_row(
            group.name,
            str(len(group.teacher_strength)),
            f"{group.aligned[0]}→{group.aligned[-1]}",
            *(f"{_figure(a, 2)}→{_figure(b, 2)}" for a, b in zip(thirds[0], thirds[-1], strict=True)),
            _figure(group.strong_first(), 2),
        )
    return Text(), rows


def _figure(value: float, digits: int = 3) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _bars(row: np.ndarray) -> str:
    """Three marks on a line from 0 to 1: where the strong (●), middle (◐) and weak (○) thirds are."""
    line = ["·"] * (_BAR + 1)
    for value, mark in zip(row[::-1], "○◐●", strict=True):
        if not math.isnan(value):
            line[round(_BAR * min(max(value, 0.0), 1.0))] = mark
    return "".join(line)
