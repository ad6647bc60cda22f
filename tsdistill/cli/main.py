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
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

import click

import tsdistill
from tsdistill.cli import terminal
from tsdistill.cli.common_options import DEBUG, debug_mode, show_all, with_common_options
from tsdistill.errors import TsdistillError
from tsdistill.interrupts import INTERRUPTED, leave
from tsdistill.options.option_fields import flag, spelled

COMMANDS = {
    "analyze": ("tsdistill.cli.analyze_command", "Show which nodes carry what the model has learnt."),
    "prune": ("tsdistill.cli.prune_command", "Cut nodes that little depends on, write a smaller model."),
    "distill": ("tsdistill.cli.distill_command", "Train a student to do what a teacher does."),
    "train": ("tsdistill.cli.train_command", "Train a model on labels."),
    "compare": ("tsdistill.cli.compare_command", "Lay models side by side: accuracy, size, speed, memory."),
    "export": ("tsdistill.cli.export_command", "Write a model for other engines, or as Python source."),
    "lab": ("tsdistill.lab.cli.lab_command", "Run the experiments behind the theory, see how far it holds."),
    "plugins": ("tsdistill.cli.plugins_command", "List what each plugin hook offers."),
}


class LazyGroup(click.Group):
    """Commands by name: the own ones from `COMMANDS`, others from the entry points ``tsdistill.commands``."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the arguments; shows help and the version."""
        with _reader_may_leave():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the arguments name."""
        with _reader_may_leave():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, the own ones first; imports none of them."""
        return [*COMMANDS, *_third_party_names()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command.

        Raises:
            TsdistillError: a third-party command cannot be imported, or is none.
        """
        if cmd_name in COMMANDS:
            command: click.Command | None = import_module(COMMANDS[cmd_name][0]).command
        else:
            command = _third_party(cmd_name)
        return None if command is None else with_common_options(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Look the first argument up; a file in place of a command gets a hint."""
        name = args[0]
        if not name.startswith("-") and name not in self.list_commands(ctx) and os.path.exists(name):
            raise click.UsageError(f"{name!r} is a file, not a command: 'tsdistill analyze {name}'", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the own commands with a line each, third-party ones by name only."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])
        others = _third_party_names()
        if others:
            with formatter.section("Commands from plugins"):
                formatter.write_text(", ".join(others))


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


def _third_party_names() -> list[str]:
    from tsdistill.plugins import commands

    return [name for name in commands() if name not in COMMANDS]


def _third_party(name: str) -> click.Command | None:
    from tsdistill.plugins import commands

    entry = commands().get(name)
    if entry is None:
        return None
    try:
        command = entry.load()
    except Exception as error:
        raise TsdistillError(
            f"the command {name!r} ({entry.value}) cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(command, click.Command):
        raise TsdistillError(f"the command {name!r} ({entry.value}) is not a click command")
    return command


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="`tsdistill COMMAND --help` says what MODEL and --data may be. Every command takes --plugin and "
    "--debug.",
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
