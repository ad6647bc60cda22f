"""Where the command line writes: tables to stdout, progress to stderr, files in one step."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from tsdistill.cli.terminal import console
from tsdistill.files import replacing
from tsdistill.outputs import STDOUT, Input, Output, check_outputs

if TYPE_CHECKING:
    from tsdistill.alignment.observing.progress import Progress as Tell


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


def check(*outputs: Output) -> None:
    """Refuse outputs of the command that runs: those that cannot be written, or would destroy something.

    Whatever else on its command line names a file or a folder is something that it reads.

    Raises:
        TsdistillError: says which output, and why.
    """
    context = click.get_current_context(silent=True)
    written = {each.option for each in outputs}
    inputs = [
        Input(param.opts[0] if isinstance(param, click.Option) else param.make_metavar(context), value)
        for param in (context.command.params if context else ())
        if context and not written.intersection(param.opts)
        for value in [context.params.get(param.name or "")]
    ]
    check_outputs(outputs, inputs)


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
