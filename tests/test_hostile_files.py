"""What is not weights is read or refused in one line, in bounded time and memory, whatever the file holds."""

from __future__ import annotations

import random
import resource
import signal
import time
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest

from tests.hostile_files import CASES
from tsdistill.errors import TsdistillError
from tsdistill.printable import LONGEST_MESSAGE

FEW, MANY = 420, 10_000
SECONDS = 5
"""Processor time of one case; most take a thousandth of it."""

MEMORY = 640 * 2**20
"""Bytes by which the process may grow over all cases: a picture of the largest size takes 270 MB, and its
copy as much."""


WORDS = ("accepted", "refused", "else")


class Overtime(BaseException):
    """No reader catches it."""


def _overtime(number: int, frame: FrameType | None) -> None:
    raise Overtime


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_files_are_read_or_refused(tmp_path: Path, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts what is accepted, refused and anything else; the last must be nothing."""
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in CASES}
    wrong: list[str] = []
    for case in CASES.values():
        case(tmp_path, random.Random(0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    handler = signal.signal(signal.SIGPROF, _overtime)
    slowest = (0.0, "")
    try:
        for number in range(count):
            name = list(CASES)[number % len(CASES)]
            call = CASES[name](tmp_path, random.Random(number))
            start = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                call()
                outcomes[name]["accepted"] += 1
            except TsdistillError as error:
                outcomes[name]["refused"] += 1
                if not str(error).isprintable() or len(str(error)) > LONGEST_MESSAGE:
                    wrong.append(f"{name} {number}: a message of {len(str(error))} characters")
            except BaseException as error:
                outcomes[name]["else"] += 1
                wrong.append(f"{name} {number}: {type(error).__name__}: {str(error)[:200]}")
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            slowest = max(slowest, (time.process_time() - start, f"{name} {number}"))
    finally:
        signal.signal(signal.SIGPROF, handler)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    with capsys.disabled():
        print()
        for name, counts in outcomes.items():
            print(
                f"{name:12}", ", ".join(f"{counts[word]} {word}" for word in ("accepted", "refused", "else"))
            )
        print(f"slowest {slowest[0]:.2f} s ({slowest[1]}); grown by {grown / 2**20:.0f} MiB")
    assert not wrong, "\n".join(wrong)
    assert not list(tmp_path.rglob("ran"))
    assert grown < MEMORY
    assert all(counts["refused"] for counts in outcomes.values())
