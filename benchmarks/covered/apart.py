"""Work in a process of its own, with a limit of time and memory."""

from __future__ import annotations

import json
import os
import resource
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from record import Row

from .checks import Failure, Timed


@dataclass(frozen=True)
class Limits:
    """What one architecture may take.

    Attributes:
        seconds: of wall-clock time.
        gigabytes: of address space.
    """

    seconds: int = 600
    gigabytes: float = 10.0


def apart(work: Callable[[Timed], Row | None], folder: Path, limits: Limits) -> Row:
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
