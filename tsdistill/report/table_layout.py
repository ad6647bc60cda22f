"""The layout of tables for a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

SOFT = "\u00ad"
"""A soft hyphen: where a header may break."""

_ENDLESS = 10_000
"""Columns of a terminal wide enough for any table, to measure the width that a table needs."""

_LONG = 8
"""Characters up to which a name is not broken."""


class FittingTable(Table):
    """A table whose headers break where there is no room for them: at a newline, a space where there is room,
    and at a soft hyphen.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        headers = [str(column.header) for column in self.columns]
        try:
            self._head(headers, "", " ")
            if self.__rich_measure__(console, options.update(width=_ENDLESS)).maximum > options.max_width:
                self._head(headers, "-\n", "\n")
            yield from super().__rich_console__(console, options)
        finally:
            self._head(headers, SOFT, "\n")

    def _head(self, headers: list[str], hyphen: str, newline: str) -> None:
        for column, header in zip(self.columns, headers, strict=True):
            column.header = header.replace("\n", newline).replace(SOFT, hyphen)


def table(title: str, *columns: str, close: bool = False) -> Table:
    """An empty table in the style of all our tables.

    Args:
        title: over the table.
        columns: names of the columns; one that begins with ``<`` is flushed left.
        close: put the columns closer together, so that more of them fit.
    """
    empty = FittingTable(
        title=f"{title}\n" if close else title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        header_style="bold",
        pad_edge=False,
        show_edge=not close,
        padding=(0, 1, 0, 0) if close else (0, 1),
    )
    for name in columns:
        left = name.startswith("<")
        empty.add_column(name.removeprefix("<"), justify="left" if left else "right", overflow="fold")
    return empty


def breakable(name: str) -> str:
    """A long name that may break in the middle."""
    half = len(name) // 2
    return name if len(name) <= _LONG else f"{name[:half]}{SOFT}{name[half:]}"
