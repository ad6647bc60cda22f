"""Where the command line writes: tables to stdout, progress to stderr, files in one step."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsdistill.cli.terminal import console
from tsdistill.errors import TsdistillError
from tsdistill.files import replacing

if TYPE_CHECKING:
    from tsdistill.alignment.observing.progress import Progress as Tell

STDOUT = "-"


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say on stderr what is going on, while it goes on and only to a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with console(stderr=True).status(what):
        yield


@contextmanager
def progress(unit: str = "samples") -> Iterator[Tell | None]:
    """A bar on stderr that follows what it is told; ``None`` in place of it where stderr is no terminal.

    Args:
        unit: what is counted.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=None, visible=False, count="")
        current = ""

        def tell(phase: str, done: int, total: int | None) -> None:
            nonlocal current
            if phase != current:
                current = phase
                shown.reset(task, description=phase, visible=True, count="")
            shown.update(task, completed=done, total=total, count=_count(done, total, unit))

        yield tell


def _count(done: int, total: int | None, unit: str) -> str:
    if not done and total is None:
        return ""
    return f"{done:,} {unit}" if total is None else f"{done:,} of {total:,} {unit}"


def check_writable(path: str | None) -> None:
    """Refuse a file that could not be written, before any work is done; ``None`` and ``-`` pass.

    Raises:
        TsdistillError: the path is a folder, or its folder is missing or cannot be written in.
    """
    if path is None or path == STDOUT:
        return
    file = Path(path)
    if file.is_dir():
        raise TsdistillError(f"{path} is a folder; name a file")
    if not file.parent.is_dir():
        raise TsdistillError(f"{path}: the folder {file.parent} does not exist; create it first")
    try:
        handle, probe = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    except OSError as error:
        raise TsdistillError(
            f"{path}: cannot write in {file.parent} ({error.strerror}); name another"
        ) from error
    os.close(handle)
    os.unlink(probe)


def check_folder(path: str | None) -> None:
    """Refuse a folder that could not be made or written in, before any work is done; ``None`` passes.

    Raises:
        TsdistillError: the path is a file, or the folder it would be made in is missing or cannot be written
            in.
    """
    if path is None:
        return
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise TsdistillError(f"{path} is a file; name a folder")
    place = folder if folder.is_dir() else folder.parent
    if not place.is_dir():
        raise TsdistillError(f"{path}: the folder {place} does not exist; create it first")
    if not os.access(place, os.W_OK | os.X_OK):
        raise TsdistillError(f"{path}: cannot write in {place}; name another")


def write_text(path: str, text: str) -> None:
    """Write ``text`` beside ``path`` and rename it there, or to stdout for ``-``.

    Raises:
        TsdistillError: the file cannot be written.
    """
    if path == STDOUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: str, contents: Mapping[str, Any]) -> None:
    """Write ``contents`` as JSON (see `write_text`)."""
    write_text(path, json.dumps(contents, indent=1, allow_nan=False) + "\n")
