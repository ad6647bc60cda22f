"""The residual branches of a model, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from tsdistill.report.numbers import share
from tsdistill.report.table_layout import table
from tsdistill.tracing.branches import Branch


def branches_table(branches: Sequence[Branch], params: int, macs: int) -> Group:
    """A row a branch: what it adds to, and its part of the model.

    Args:
        branches: of a model.
        params: parameters of the model.
        macs: its MACs at batch 1.
    """
    rows = table("Residual branches", "<branch", "params", "MACs", "<added to", "<inside of", close=True)
    for branch in branches:
        rows.add_row(
            branch.name,
            share(branch.params, params),
            share(branch.macs, macs),
            ", ".join(branch.stream) or "a stream that is not pruned",
            branch.within or "",
        )
    return Group(rows, Text("tsdistill prune --drop NAME removes one whole (again for more, or a pattern)."))
