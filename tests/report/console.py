"""Tables as a terminal shows them."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console


def text(table: Any, width: int = 300) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()
