"""An outcome on a terminal: its claims with what came of them, and its tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import rich.table

from tsdistill.lab import Claim, Table
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
