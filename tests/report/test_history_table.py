from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console

from tsdistill.alignment.history import AlignmentHistory, GroupHistory
from tsdistill.report.history_table import history_table


def made(groups: int) -> AlignmentHistory:
    best = np.linspace(0.2, 1.0, 5)[:, None] * np.array([1.0, 0.9, 0.5])
    found = tuple(
        GroupHistory(f"layer1.{n}.conv", f"layer1.{n}.conv", np.array([3.0, 2.0, 1.0]), best, 0.9)
        for n in range(groups)
    )
    names = tuple(f"ckpt-{n}.pt" for n in range(5))
    return AlignmentHistory(names, "correlation", None, "", found, (), cast(Any, SimpleNamespace()))


def shown(history: AlignmentHistory, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(history_table(history))
    return cast(io.StringIO, console.file).getvalue().splitlines()


def test_a_row_a_checkpoint() -> None:
    lines = shown(made(1), 120)
    rows = [line.split() for line in lines if line.split()[:1] and line.split()[0].startswith("ckpt-")]
    assert [row[0] for row in rows] == [f"ckpt-{n}.pt" for n in range(5)]
    assert rows[0][1:7] == ["0.200", "0.180", "0.100", "0", "of", "3"]
    assert rows[-1][1:7] == ["1.000", "0.900", "0.500", "2", "of", "3"]
    assert rows[-1][7] == "··········○·······◐·●"
    assert any("Strong ones first: 1.00" in line for line in lines)
    assert not any("by group" in line for line in lines)


@pytest.mark.parametrize("width", [80, 120])
def test_a_row_a_group_fits_a_terminal(width: int) -> None:
    lines = shown(made(2), width)
    rows = [line.split() for line in lines if line.split()[:1] and line.split()[0].startswith("layer1.")]
    assert rows == [
        [f"layer1.{n}.conv", "3", "0→2", "0.20→1.00", "0.18→0.90", "0.10→0.50", "1.00"] for n in range(2)
    ]
    assert max(map(len, lines)) <= width
