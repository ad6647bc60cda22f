"""The model card of a pruned model: what was cut, with what data, and what it cost."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tsdistill.printable import printable
from tsdistill.report.comparison_table import comparison_rows
from tsdistill.report.numbers import amount
from tsdistill.report.tables import name_pattern
from tsdistill.version import __version__

if TYPE_CHECKING:
    from tsdistill import Comparison, PruneResult

_HEAD = """---
library_name: transformers
tags:
- pruned
- tsdistill
---
"""

_LONGEST = 400
"""Characters of a name or a description."""


def model_card(source: str, result: PruneResult, compared: Comparison | None) -> str:
    """The card as Markdown.

    Args:
        source: what the dense model was loaded from.
        result: of pruning.
        compared: the dense and the pruned model side by side; ``None`` before that is measured.
    """
    lines = [_HEAD, f"# {_plain(source)}, pruned", ""]
    lines += [
        f"Pruned with tsdistill {__version__}, without labels and without training: "
        f"{_plain(result.plan.budget)} were asked for.",
        f"The data were {_plain(result.data)}.",
        "",
        *_cut(result),
    ]
    if compared is not None:
        lines += ["", "## Dense and pruned", "", "| | dense | pruned |", "|---|---|---|"]
        lines += [
            f"| {label} | {' | '.join(cells)} |"
            for rows in comparison_rows(compared)
            for label, cells in rows
        ]
        lines += ["", f"Measured on {_plain(compared.data)}." if compared.data else ""]
    notes = list(dict.fromkeys(result.notes))
    if notes:
        lines += ["", "## Notes", "", *(f"- {_plain(note)}" for note in notes)]
    return "\n".join(lines).rstrip() + "\n"


def _cut(result: PruneResult) -> list[str]:
    """What has left, groups of one size and one width on a line."""
    lines = [
        "## What was cut",
        "",
        "| group | number of them | nodes each | nodes kept |",
        "|---|---|---|---|",
    ]
    widths = Counter(
        (name_pattern(name), group.size, group.size - len(group.removed))
        for name, group in result.plan.groups.items()
        if group.removed
    )
    lines += [f"| `{_plain(n)}` | {number} | {size} | {kept} |" for (n, size, kept), number in widths.items()]
    before, after = result.before, result.after
    lines += [
        "",
        f"Parameters: {amount(before['params'])} before, {amount(after['params'])} after.",
        f"Multiply-accumulates of one pass: {amount(before['macs'])} before, {amount(after['macs'])} after.",
    ]
    return lines


def _plain(text: str) -> str:
    return printable(text, _LONGEST).replace("|", "\\|").replace("<", "&lt;")
