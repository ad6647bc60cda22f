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
VERDICTS = {True: "held", False: "did not hold", None: "cannot say"}


def verdict(held: bool | None) -> str:
    """What came of a claim, in words."""
    return VERDICTS[held]


def claims_table(
    claims: Sequence[Claim], title: str = "What the theory says, and what came out"
) -> rich.table.Table:
    """A row a claim: whether it held, what it says and where it is from, and what was measured."""
    made = table(title, "<", "<claim and what was measured", "<source")
    made.columns[0].no_wrap = True
    made.columns[2].max_width = _SOURCE
    for place, claim in enumerate(claims, start=1):
        last = place == len(claims)
        made.add_row(
            verdict(claim.held), f"{claim.text}\n{claim.measured}", claim.source, end_section=not last
        )
    return made


def outcome_table(found: Table) -> rich.table.Table:
    """One of an outcome's tables; columns of text are flushed left."""
    left = [any(isinstance(row[place], str) for row in found.rows) for place in range(len(found.columns))]
    names = [f"<{name}" if text else name for name, text in zip(found.columns, left, strict=True)]
    made = table(found.title, *names, close=True)
    made.min_width = min(len(found.title), _TITLE)
    for row in found.rows:
        made.add_row(*(cell(value) for value in row))
    return made


def cell(value: str | int | float | None) -> str:
    """Text as it is, whole numbers with separators, others with three digits, nothing for none."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, float) and math.isnan(value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def conditions_shown(found: Conditions, notes: Iterable[str] = ()) -> Iterator[RenderableType]:
    """Lines and tables: what was looked at, layer by layer, the conditions, and what to make of them.

    Args:
        found: what `tsdistill.lab.check` returned.
        notes: further ones, such as those of loading.
    """
    yield f"model   {found.arch or 'the given model'}"
    yield f"teacher {found.teacher_arch or 'the given teacher'}"
    yield f"data    {found.data}"
    for note in dict.fromkeys((*notes, *found.notes)):
        yield f"note    {note}"
    yield layers_table("Rectified layers of the student", found.student)
    yield layers_table("Rectified layers of the teacher", found.teacher)
    yield claims_table(found.claims, "What the theorems ask for, and what was measured")
    yield f"advice  {found.advice}"


def layers_table(title: str, layers: Sequence[LayerConditions]) -> rich.table.Table:
    """A row a layer: its nodes, how much of a rectifier it is, its boundaries and its gradient."""
    learns = any(layer.gradient is not None for layer in layers)
    names = ["<layer", "nodes", "rectified", "boundaries\namong the data"]
    made = table(title, *names, *(["gradient,\nmedian", "gradient,\n95 %"] if learns else []))
    for layer in layers:
        made.add_row(
            layer.place,
            str(layer.nodes),
            f"{layer.rectified:.3f}",
            f"{layer.crossed:.0%}",
            *([_share(layer.gradient), _share(layer.gradient_worst)] if learns else []),
        )
    return made


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
