"""Two records side by side: which runs gave the same, and what differs in the others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

Rows = Mapping[str, Mapping[str, Any]]

_SHOWN = 6
"""Differences of one run that the table shows; the others are counted."""


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line for each figure that is not the same in both."""
    lines = []
    for name in [*old, *(name for name in new if name not in old)]:
        before, after = old.get(name), new.get(name)
        if name not in new or name not in old or before != after:
            lines.append(f"{name}: {_text(before)} → {_text(after)}")
    return lines


def show(old: Rows, new: Rows, console: Console) -> bool:
    """Print one table.

    Args:
        old: rows of a record by the names of their runs: ``figures``, ``machine`` and ``commit``.
        new: those of the other one.
        console: where to.

    Returns:
        Whether every run is in both records with the same figures.
    """
    table = Table("run", "", "what differs")
    same = True
    for run in [*old, *(run for run in new if run not in old)]:
        if run not in old or run not in new:
            verdict, lines = "missing", [f"only in the {'new' if run in new else 'old'} record"]
        else:
            lines = differences(old[run]["figures"], new[run]["figures"])
            verdict = "different" if lines else "same"
        same = same and verdict == "same"
        if len(lines) > _SHOWN:
            lines = [*lines[:_SHOWN], f"and {len(lines) - _SHOWN} more"]
        table.add_row(run, verdict, "\n".join(lines))
    console.print(table)
    for line in sorted({line for run in old if run in new for line in _circumstances(old[run], new[run])}):
        console.print(line)
    return same


def _circumstances(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differed in the machine and its packages, which may explain other digits."""
    return [f"recorded with another {line}" for line in differences(old["machine"], new["machine"])]


def _text(value: Any) -> str:
    """A figure in full, a digest by its first digits."""
    if value is None:
        return "none"
    text = str(value)
    return text[:10] if re.fullmatch("[0-9a-f]{64}", text) else text
