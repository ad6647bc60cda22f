"""Entry point of the command line: commands that load when they are called, errors as one line."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import click

import tsdistill
from tsdistill.cli import terminal
from tsdistill.cli.builtin_commands import COMMANDS
from tsdistill.cli.common_options import DEBUG, debug_mode, debug_option, plugin_option, show_all
from tsdistill.cli.lazy_group import Entry, LazyGroup, imported
from tsdistill.errors import TsdistillError
from tsdistill.interrupts import INTERRUPTED, leave
from tsdistill.options.option_fields import flag, spelled
from tsdistill.plugins.hookspecs import LazyCommand


class _Root(LazyGroup):
    """The group of all commands."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the arguments; shows help and the version."""
        with _reader_may_leave():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the arguments name."""
        with _reader_may_leave():
            return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Look the first argument up; a file in place of a command gets a hint."""
        name = args[0]
        if not name.startswith("-") and os.path.exists(name) and name not in self.list_commands(ctx):
            raise click.UsageError(f"{name!r} is a file, not a command: 'tsdistill analyze {name}'", ctx)
        return super().resolve_command(ctx, args)


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Leave with `terminal.READER_GONE` where nobody reads stdout any more; click would say nothing of any
    broken pipe and leave with 1."""
    try:
        yield
    except BrokenPipeError as error:
        if terminal.reader_gone():
            terminal.drop_stdout()
            raise click.exceptions.Exit(terminal.READER_GONE) from error
        raise RuntimeError("a process that this one works with has ended") from error


def _own() -> dict[str, Entry]:
    return {name: _entry(name, command) for name, command in COMMANDS.items()}


def _of_plugins() -> dict[str, Entry]:
    """The commands of plugins; where two have one name, this is said and none is there."""
    from tsdistill import plugins

    try:
        commands = plugins.items("command")
    except TsdistillError as error:
        terminal.complain(error)
        return {}
    return {name: _entry(name, command) for name, command in commands.items() if name not in COMMANDS}


def _entry(name: str, command: LazyCommand | click.Command) -> Entry:
    if isinstance(command, click.Command):
        return Entry(command.get_short_help_str(), lambda: command)
    return Entry(command.help, partial(imported, command.place, f"the command {name!r}"))


@click.command(
    cls=_Root,
    sections={"Commands": _own, "Commands from plugins": _of_plugins},
    params=[plugin_option(eager=True), debug_option()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="`tsdistill COMMAND --help` says what MODEL and --data may be. Every command takes --config "
    "(a file of options), --plugin and --debug.",
)
@click.version_option(tsdistill.__version__, prog_name="tsdistill")
def cli() -> None:
    """Find which nodes of a network carry what it has learnt, and cut the rest for real."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process.

    Exit codes: 0 done, 1 a fault of tsdistill or a metric that raised, 2 input that cannot be used, 130
    interrupted, 141 the reader of stdout has left. Any failure is one line; ``--debug`` or the environment
    variable ``TSDISTILL_DEBUG=1`` shows its traceback too.

    Args:
        args: arguments without the program's name; ``None`` for those of the process.
    """
    code = _run(args)
    try:
        terminal.flush_stdout()
    except BrokenPipeError:
        code = terminal.READER_GONE
    except OSError as error:
        terminal.complain(f"standard output cannot be written: {error.strerror}")
        code = 2
    sys.exit(code)


def _run(args: Sequence[str] | None) -> int:
    """Run the command line; the exit code."""
    with _interrupts() as seen:
        try:
            return _command(args)
        except Exception as error:
            if debug_mode():
                traceback.print_exc()
            code, line = (INTERRUPTED, "interrupted") if seen else _explain(error)
            terminal.complain(line)
            return code


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The signals of Ctrl-C that have come inside the block.

    A library whose import is interrupted may swallow the exception and go on half imported; the error that
    this leads to later is no fault of anybody's.
    """
    seen: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    here = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    ours = here and before in (signal.default_int_handler, leave)
    if ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield seen
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)


def _command(args: Sequence[str] | None) -> int:
    try:
        terminal.prepare_streams()
        _quieten()
        if debug_mode():
            show_all()
        with spelled(flag):
            code = cli.main(args=args, prog_name="tsdistill", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as asked:
        click.echo(asked.format_message())
        code = 0
    except click.exceptions.Exit as exit_:
        code = exit_.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        cause = str(error.__cause__ or error)
        terminal.complain(f"interrupted {cause}" if cause else "interrupted")
        code = INTERRUPTED
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> tuple[int, str]:
    """Exit code and line for an exception."""
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "tsdistill"
        return 2, f"{error.format_message().rstrip('.')} (see '{path} --help')"
    if isinstance(error, click.ClickException):
        return 2, error.format_message()
    if isinstance(error, TsdistillError):
        return 2, str(error)
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        return 2, f"{place}{error.strerror}"
    hint = f"--debug or {DEBUG}=1 shows the traceback"
    return 1, f"unexpected {type(error).__name__}: {error} ({hint})"


def _quieten() -> None:
    """Keep other libraries' warnings from stderr; ours go there as plain lines."""
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    ours = logging.getLogger("tsdistill")
    ours.propagate = False
    handler = logging.StreamHandler()
    handler.setFormatter(terminal.LineFormatter())
    ours.addHandler(handler)
