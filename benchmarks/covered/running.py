"""Architectures in processes of their own, with a limit of time and memory; one line of a file for each."""

from __future__ import annotations

import json
import os
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from record import Record, Row

from .architectures import Architecture, size_of
from .checks import Failure, Timed, first, second
from .peer import peer


@dataclass(frozen=True)
class Limits:
    """What one architecture may take.

    Attributes:
        seconds: of wall-clock time.
        gigabytes: of address space.
    """

    seconds: int = 600
    gigabytes: float = 10.0


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
        size = size_of(architecture)
        work: Callable[[Timed], Row | None] = (
            (lambda timed: peer(architecture.tried, folder, timed, size))
            if kind == "peer"
            else (lambda timed: first(architecture.tried, folder, timed, size, kind == "quick"))
        )
        row |= _apart(work, folder, limits)
        if kind != "peer" and row["cause"] is None:
            again = _apart(lambda timed: second(folder, timed), folder, limits)
            row |= {"cause": again["cause"], "seconds": {**row["seconds"], **again["seconds"]}}
    row["passed"] = row["cause"] is None
    return row | {"took": round(time.perf_counter() - start, 1)}


def _apart(work: Callable[[Timed], Row | None], folder: Path, limits: Limits) -> Row:
    """What ``work`` gives in a process of its own, with the ``cause`` of its failure and ``seconds``."""
    found = folder / "row.json"
    found.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        _limit(limits)
        timed, row, cause, raised = Timed(), {}, None, False
        try:
            row = work(timed) or {}
        except Failure as failure:
            cause = f"{timed.step}: {failure}"
        except BaseException as error:
            cause, raised = f"{timed.step}: {_shown(error)}", True
            if os.environ.get("COVERAGE_TRACEBACK"):
                traceback.print_exc()
        found.write_text(json.dumps({**row, "cause": cause, "raised": raised, "seconds": timed.seconds}))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if found.exists():
        with suppress(json.JSONDecodeError):
            return json.loads(found.read_text())
    late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
    cause = f"longer than {limits.seconds} s" if late else f"the process ended with status {status}"
    return {"cause": cause, "raised": True, "seconds": {}}


def _limit(limits: Limits) -> None:
    amount = int(limits.gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (amount, amount))
    signal.alarm(limits.seconds)


def _shown(error: BaseException) -> str:
    text = " ".join(str(error).split())[:240]
    return f"{type(error).__name__}: {text}"


def shares(todo: list[Any], jobs: int) -> Iterator[list[Any]]:
    """``todo`` dealt out like cards to ``jobs`` processes."""
    for number in range(jobs):
        yield todo[number::jobs]
