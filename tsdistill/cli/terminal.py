"""Standard streams that take whatever is written: any encoding, any text, and a reader that leaves."""

from __future__ import annotations

import codecs
import logging
import os
import select
import sys
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from tsdistill.errors import TsdistillError
from tsdistill.printable import one_line, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console
    from rich.segment import Segment

READER_GONE = 141
"""Exit code where the reader of stdout has left (``| head``): 128 + SIGPIPE, as the shell gives it."""

_ENCODING_ERRORS = "tsdistill"
_PIPE_WIDTH = 80
"""Columns of tables that do not go to a terminal, unless the environment variable COLUMNS says otherwise: as
many as most terminals have."""

_PLAIN = {
    "µ": "u", "μ": "u", "²": "2", "³": "3", "×": "x", "·": "*", "−": "-", "–": "-", "—": "-", "→": "->",
    "←": "<-", "≥": ">=", "≤": "<=", "≈": "~", "±": "+-", "…": "...", "‖": "||", "’": "'", "σ": "sigma",
    "ρ": "rho", "β": "beta", "λ": "lambda", "ε": "epsilon", "Σ": "sum",
}  # fmt: skip
"""What our tables and messages write beyond ASCII, in ASCII."""


def prepare_streams() -> None:
    """Make the standard streams safe to write to.

    Characters that their encoding lacks are written in ASCII. Where stderr is closed, what goes there is
    dropped.

    Raises:
        TsdistillError: stdout is closed: the next file to be opened would take its place.
    """
    codecs.register_error(_ENCODING_ERRORS, _in_ascii)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ENCODING_ERRORS)
    if sys.stdout is None:
        raise TsdistillError("standard output is closed; give it a place, such as > /dev/null")


def flush_stdout() -> None:
    """Write what stdout still holds.

    Raises:
        OSError: it cannot be written; what is left is dropped, and leaving the process does not try again.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        drop_stdout()
        raise


@contextmanager
def writing_stdout() -> Iterator[None]:
    """Name standard output where a write to it fails; a reader that has left is no such failure.

    Raises:
        TsdistillError: standard output cannot be written, a full disk for example.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_stdout()
        raise TsdistillError(f"standard output cannot be written: {error.strerror}") from error


def reader_gone() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    if not hasattr(select, "poll"):
        return True
    with suppress(OSError, ValueError):
        pipe = select.poll()
        pipe.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in pipe.poll(0))
    return False


def drop_stdout() -> None:
    """Send stdout to nowhere from now on."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def complain(text: object) -> None:
    """Write one line to stderr; where nobody reads it, it is lost."""
    with suppress(OSError):
        print(f"tsdistill: {one_line(text)}", file=sys.stderr, flush=True)


class LineFormatter(logging.Formatter):
    """Log records as lines of the command line: one printable line each, behind it a traceback that comes
    with the record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        line = f"tsdistill: {one_line(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def console(*, stderr: bool = False) -> Console:
    """A rich console that shows text of any origin as text.

    Characters that are not printable are shown as escapes, so names out of files carry no commands to the
    terminal. Where the output is no terminal, tables fit `_PIPE_WIDTH` columns and lines of text are not
    broken.
    """
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class PrintableConsole(Console):
        """Escapes what is not printable in everything that is rendered."""

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            """The segments of ``renderable``, with escapes in place of what is not printable."""
            for segment in super().render(renderable, options):
                text = segment.text
                if segment.control or text.isprintable() or text == "\n":
                    yield segment
                else:
                    lines = "\n".join(printable(line) for line in text.split("\n"))
                    yield Segment(lines, segment.style)

        def print(self, *objects: Any, **kwargs: Any) -> None:
            """Print to the stream; the error names it where that fails."""
            piped = not self.is_terminal and all(isinstance(each, str) for each in objects)
            with nullcontext() if self.stderr else writing_stdout():
                super().print(*objects, soft_wrap=piped, **kwargs)

        def on_broken_pipe(self) -> None:
            """Leave as a program does that nobody reads any more."""
            self.quiet = True
            drop_stdout()
            raise SystemExit(READER_GONE)

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return PrintableConsole(
        stderr=stderr, width=width, highlight=False, soft_wrap=False, emoji=False, markup=False
    )


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or ascii(c)[1:-1] for c in lacking), error.end
