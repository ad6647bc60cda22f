"""Where the command line writes: tables to stdout, files in one step."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from tsdistill.cli import progress_display, terminal
from tsdistill.files import atomic_file
from tsdistill.output_paths import STDOUT, Input, Output, check_outputs

if TYPE_CHECKING:
    from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    """A console (`tsdistill.cli.terminal.console`). Results go to stdout: one for them ends the progress."""
    if not stderr:
        progress_display.finish()
    return terminal.console(stderr=stderr)


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
        progress_display.finish()
        with terminal.writing_stdout():
            sys.stdout.write(text)
            sys.stdout.flush()
        return
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str, contents: Mapping[str, Any]) -> None:
    """Write ``contents`` as JSON (see `write_text`)."""
    write_text(path, json.dumps(contents, indent=1, allow_nan=False) + "\n")
