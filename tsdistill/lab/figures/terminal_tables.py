"""Outcomes, and the conditions of the theorems for a pair of models, as tables on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import rich.table
from rich.console import RenderableType

from tsdistill.lab import Claim, Conditions, Table
from tsdistill.lab.results import LayerConditions
from tsdistill.report.table_layout import table

_SOURCE, _TITLE = 26, 60
"""Characters: the width of the column of sources, and the most by which a title widens its table."""
VERDICTS = {True: "held", False: "did not hold", None: "cannot say"}


def verdict(held: bool | None) -> str:
    """The verdict on a claim, in words."""
    return VERDICTS[held]


def claims_table(
    claims: Sequence[Claim], title: str = "What the theory says, and what came out"
) -> rich.table.Table:
    """A row for each claim: verdict, text, measurement and source."""
    result = table(title, "<", "<claim and what was measured", "<source")
    result.columns[0].no_wrap = True
    result.columns[2].max_width = _SOURCE
    for place, claim in enumerate(claims, start=1):
        last = place == len(claims)
        result.add_row(
            verdict(claim.held), f"{claim.text}\n{claim.measured}", claim.source, end_section=not last
        )
    return result


def outcome_table(source: Table) -> rich.table.Table:
    """A table of an outcome; columns of text are left-aligned."""
    left = [any(isinstance(row[place], str) for row in source.rows) for place in range(len(source.columns))]
    names = [f"<{name}" if text else name for name, text in zip(source.columns, left, strict=True)]
    result = table(source.title, *names, close=True)
    result.min_width = min(len(source.title), _TITLE)
    for row in source.rows:
        result.add_row(*(cell_text(value) for value in row))
    return result


def cell_text(value: str | int | float | None) -> str:
    """The text of a cell: integers with separators, floats with three digits, ``None`` and NaN empty."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, float) and math.isnan(value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def conditions_report(conditions: Conditions, notes: Iterable[str] = ()) -> Iterator[RenderableType]:
    """The report of `tsdistill lab check` as lines and tables.

    Args:
        conditions: result of `tsdistill.lab.check`.
        notes: additional notes, such as those of loading.
    """
    yield f"model   {conditions.arch or 'the given model'}"
    yield f"teacher {conditions.teacher_arch or 'the given teacher'}"
    yield f"data    {conditions.data}"
    for note in dict.fromkeys((*notes, *conditions.notes)):
        yield f"note    {note}"
    yield layers_table("Rectified layers of the student", conditions.student)
    yield layers_table("Rectified layers of the teacher", conditions.teacher)
    yield claims_table(conditions.claims, "What the theorems ask for, and what was measured")
    yield f"advice  {conditions.advice}"


def layers_table(title: str, layers: Sequence[LayerConditions]) -> rich.table.Table:
    """A row for each layer: nodes, rectified share, crossed boundaries and gradient."""
    learns = any(layer.gradient is not None for layer in layers)
    names = ["<layer", "nodes", "rectified", "boundaries\namong the data"]
    result = table(title, *names, *(["gradient,\nmedian", "gradient,\n95 %"] if learns else []))
    for layer in layers:
        result.add_row(
            layer.place,
            str(layer.nodes),
            f"{layer.rectified:.3f}",
            f"{layer.crossed:.0%}",
            *([_share(layer.gradient), _share(layer.gradient_worst)] if learns else []),
        )
    return result


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
