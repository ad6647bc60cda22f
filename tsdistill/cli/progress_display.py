"""What a command shows on stderr while it works: a bar on a terminal, else a line a stage."""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TextIO, TypeVar, cast

import click

from tsdistill.printable import printable
from tsdistill.runtime.progress import Forecast

F = TypeVar("F", bound=Callable[..., Any])

INTERVAL = 30.0
"""Seconds after which a stage that is still going on gets a line of its own where there is no terminal: often
enough that nobody takes the program for dead, seldom enough for the log of a job of hours."""

IMPORT = "importing libraries"
"""The first stage of every command."""

_HELD = 2.0
"""Seconds for which the line of the first stage waits for another."""

_TICK = 1.0
"""Seconds between looks at the clock."""

QUIET = "Show no progress on stderr."

Left = tuple[float, float] | None
"""Seconds that are left and seconds of the whole, ``None`` while nothing tells."""


@dataclass
class State:
    """How far the present stage is.

    Attributes:
        stage: its name, empty before the first.
        done: how much of it is done.
        total: how much there is, ``None`` when that is not known.
        detail: what takes the place of these numbers.
        silent: whether its end gets no line, because the command prints one of its own.
    """

    stage: str = ""
    done: int = 0
    total: int | None = None
    detail: str = ""
    silent: bool = False

    @property
    def count(self) -> str:
        """``"512 of 2,048"``."""
        if self.detail or (not self.done and self.total is None):
            return self.detail
        return f"{self.done:,}" if self.total is None else f"{self.done:,} of {self.total:,}"


class Display:
    """Base class of displays of progress; it shows nothing."""

    def show(self, state: State, left: Left) -> None:
        """Show a change within a stage."""

    def ended(self, state: State, seconds: float, left: Left) -> None:
        """Show the end of a stage.

        Args:
            state: the stage.
            seconds: its duration.
            left: remaining and total seconds of the command, if known.
        """

    def remind(self, state: State, seconds: float, left: Left) -> None:
        """Show that a stage still runs; called every `INTERVAL`.

        Args:
            state: the stage.
            seconds: its duration so far.
            left: remaining and total seconds of the command, if known.
        """

    def tick(self) -> None:
        """Some time has passed."""

    def line(self, text: str) -> None:
        """Print a line that stays."""

    def close(self) -> None:
        """Remove the display."""


class Lines(Display):
    """A line a stage, with the time it took and how long the rest will take.

    That of the first stage waits for what comes next: a command that fails as it begins gives one line, the
    error's.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._held, self._since = "", 0.0

    def ended(self, state: State, seconds: float, left: Left) -> None:
        """``"observing samples, 64 of 64: 24.1 s; about 1:20 of 1:52 left"``."""
        text = f"{_named(state)}: {duration(seconds)}{_estimate(left)}"
        if state.stage == IMPORT:
            self._held, self._since = text, time.monotonic()
        elif not state.silent:
            self.line(text)

    def tick(self) -> None:
        """Print the line that is held back, after `_HELD` seconds."""
        if self._held and time.monotonic() > self._since + _HELD:
            self._release()

    def _release(self) -> None:
        if self._held:
            self._print(self._held)
            self._held = ""

    def remind(self, state: State, seconds: float, left: Left) -> None:
        """``"observing samples, 32 of 64: 0:30 so far; about 1:50 of 2:20 left"``."""
        self.line(f"{_named(state)}: {duration(seconds)} so far{_estimate(left)}")

    def _print(self, text: str) -> None:
        """Print a line of text of any origin; where nobody reads it, it is lost."""
        with suppress(OSError, ValueError):
            print(printable(text), file=self._stream, flush=True)

    def line(self, text: str) -> None:
        """Print a line."""
        self._release()
        self._print(text)


class Terminal(Display):
    """A bar that goes away at the end."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        from tsdistill.cli.terminal import console

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
        )
        self._bar = Progress(*columns, console=console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=None, visible=False, count="", left="")
        self._stage = ""
        self._bar.start()

    def show(self, state: State, left: Left) -> None:
        """Draw it."""
        if state.stage != self._stage:
            self._stage = state.stage
            self._bar.reset(self._task, description=state.stage, visible=True, count="", left="")
        left_text = _estimate(left).removeprefix("; ")
        self._bar.update(
            self._task, completed=state.done, total=state.total, count=state.count, left=left_text
        )

    def line(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


class Monitor:
    """Follows the stages of one command; it is what the Python API calls ``progress``.

    Args:
        display: where they are shown.
        interval: seconds without a line after which there is a reminder that the stage goes on.
    """

    def __init__(self, display: Display, interval: float = INTERVAL) -> None:
        self._display, self._forecast, self._state = display, Forecast(), State()
        self._interval, self._last = interval, time.monotonic()
        self._lock, self._closed = threading.RLock(), threading.Event()
        threading.Thread(target=self._remind, daemon=True).start()

    @property
    def silent(self) -> bool:
        """Whether nothing is shown."""
        return type(self._display) is Display

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` of ``stage`` is done."""
        self.update(stage, done, total)

    def update(
        self, stage: str, done: int, total: int | None, *, detail: str = "", silent: bool = False
    ) -> None:
        """Take the state of a stage.

        Args:
            stage: its name.
            done: units of it that are done.
            total: units in all, if known.
            detail: text shown in place of the counts.
            silent: give the stage no line of its own at its end.
        """
        with self._lock:
            if self._closed.is_set():
                return
            if self._state.stage not in ("", stage):
                self._end()
            self._forecast.update(stage, done, total)
            self._state = State(stage, done, total, detail, silent)
            self._display.show(self._state, self._left())

    def expect(self, stages: Mapping[str, float]) -> None:
        """Take note of stages that will come (see `Forecast.expect`)."""
        with self._lock:
            self._forecast.expect(stages)

    def line(self, text: str) -> None:
        """Print a line that stays."""
        with self._lock:
            self._display.line(text)
            self._last = time.monotonic()

    def close(self, *, broken: bool = False) -> None:
        """Show nothing more; the last stage has ended, or was broken off."""
        with self._lock:
            if self._closed.is_set():
                return
            if self._state.stage and not broken:
                self._end()
            self._closed.set()
            self._display.close()

    def _end(self) -> None:
        seconds = self._forecast.end()
        self._display.ended(self._state, seconds, self._left())
        self._last = time.monotonic()

    def _left(self) -> Left:
        left = self._forecast.left()
        return None if left is None else (left, self._forecast.elapsed + left)

    def _remind(self) -> None:
        while not self._closed.wait(min(_TICK, self._interval)):
            with self._lock:
                if self._closed.is_set():
                    return
                self._display.tick()
                if time.monotonic() < self._last + self._interval:
                    continue
                if self._state.stage:
                    self._display.remind(self._state, self._forecast.spent, self._left())
                self._last = time.monotonic()


_open: list[Monitor] = []
"""The monitor of the command that runs; empty outside of one."""


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Monitor]:
    """The monitor of the command that runs, or a new one on stderr where there is none.

    Args:
        quiet: show nothing.
    """
    if _open:
        yield _open[-1]
        return
    monitor = Monitor(_display(quiet))
    _open.append(monitor)
    try:
        yield monitor
    except BaseException:
        monitor.close(broken=True)
        raise
    finally:
        _open.remove(monitor)
        monitor.close()


@contextmanager
def stage(stage: str) -> Iterator[None]:
    """Make the block a stage of its own."""
    with progress() as monitor:
        monitor(stage, 0, None)
        yield


def finish() -> None:
    """Close the display before results are printed."""
    for monitor in _open:
        monitor.close()


def monitored(function: F) -> F:
    """The function of a command, which shows its stages while it runs; it takes ``quiet``."""

    @functools.wraps(function)
    def run(*args: Any, quiet: bool, **params: Any) -> Any:
        with progress(quiet=quiet) as monitor:
            monitor(IMPORT, 0, None)
            return function(*args, **params)

    return cast(F, run)


def progress_options(function: F) -> F:
    """`monitored`, and the option ``--quiet``."""
    return click.option("-q", "--quiet", is_flag=True, help=QUIET)(monitored(function))


def speaks() -> bool:
    """Whether this process prints for its job: rank 0."""
    return os.environ.get("RANK", "0") == "0"


def _display(quiet: bool) -> Display:
    if quiet or not speaks():
        return Display()
    return Terminal() if sys.stderr.isatty() else Lines(sys.stderr)


def _named(state: State) -> str:
    return f"{state.stage}, {state.count}" if state.count else state.stage


def _estimate(left: Left) -> str:
    """``"; about 1:20 of 1:52 left"``; nothing where that is not known, or less than half a second."""
    return "" if left is None or left[0] < 0.5 else f"; about {clock(left[0])} of {clock(left[1])} left"


def duration(seconds: float) -> str:
    """``"24.1 s"``, ``"1:02"``."""
    return f"{seconds:.1f} s" if seconds < 59.95 else clock(seconds)


def clock(seconds: float) -> str:
    """``"0:45"``, ``"1:02:03"``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
