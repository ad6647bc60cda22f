import io
from typing import cast

from rich.console import Console

from tsdistill.report.table_layout import SOFT, breakable, table


def headers(width: int, close: bool = False) -> list[str]:
    made = table("T", "<name", "teacher nodes\naligned", f"candi{SOFT}dates", close=close)
    made.add_row("a", "1", "2")
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(made)
    console.print(made)
    lines = cast(io.StringIO, console.file).getvalue().splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    rule = next(place for place, line in enumerate(lines) if "──" in line)
    return [line.rstrip() for line in lines[2:rule]]


def test_headers_break_only_where_there_is_no_room() -> None:
    assert headers(80) == [" name   teacher nodes aligned   candidates"]
    assert headers(80, close=True) == ["name  teacher nodes aligned  candidates"]
    assert headers(35) == ["        teacher nodes   candi-", " name         aligned    dates"]


def test_long_names_may_break() -> None:
    assert breakable("gates") == "gates"
    assert breakable("correlation").replace(SOFT, "|") == "corre|lation"
