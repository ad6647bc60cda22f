"""Architectures in processes of their own; one line of a file for each."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from record import Record, Row

from .apart import Limits, apart
from .architectures import Architecture, inputs_of, size_of
from .checks import Timed, first, second
from .peer import peer


def rows(path: Path) -> Record:
    """The file of what has been tried, by kind and specification."""
    return Record(path, lambda row: (row["kind"], row["spec"]))


def tried(architecture: Architecture, kind: str, limits: Limits) -> Row:
    """One architecture (``kind`` is ``"full"``, ``"quick"`` as in ``first``, or ``"peer"``), in processes of
    its own."""
    start = time.perf_counter()
    row: Row = {"kind": kind, "spec": architecture.spec, "family": architecture.family}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size, inputs = size_of(architecture), inputs_of(architecture)
        work: Callable[[Timed], Row | None] = (
            (lambda timed: peer(architecture.tried, folder, timed, size))
            if kind == "peer"
            else (lambda timed: first(architecture.tried, folder, timed, size, kind == "quick", inputs))
        )
        row |= apart(work, folder, limits)
        if kind != "peer" and row["cause"] is None:
            again = apart(lambda timed: second(folder, timed), folder, limits)
            row |= {"cause": again["cause"], "seconds": {**row["seconds"], **again["seconds"]}}
    row["passed"] = row["cause"] is None
    return row | {"took": round(time.perf_counter() - start, 1)}


def shares(todo: list[Any], jobs: int) -> Iterator[list[Any]]:
    """``todo`` dealt out like cards to ``jobs`` processes."""
    for number in range(jobs):
        yield todo[number::jobs]
