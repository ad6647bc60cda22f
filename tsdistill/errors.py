"""The one exception that reaches users as a single line, and the line that others become."""

from __future__ import annotations

from tsdistill.printable import one_line


class TsdistillError(Exception):
    """Something a user gave cannot be used.

    The message is one line that says what is wrong, where, and the way out. The command line prints it to
    stderr and exits with code 2; in Python it is raised as it is. Whatever is put into it, out of files above
    all, it is printable and bounded (`tsdistill.printable.one_line`).
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(message))


class BudgetUnreachable(TsdistillError):
    """A budget below the smallest that the model can be cut to."""


class WrongCall(TsdistillError, TypeError):
    """A function is called with arguments that it does not take."""


_LONGEST_REASON = 200
"""Characters of another library's message: a sentence or two."""


def cause_of(error: BaseException) -> str:
    """Why something failed, in a few printable words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError) and not str(error):
        return "it needs more memory than there is"
    text = str(error)
    named = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return one_line(text if isinstance(error, UnicodeDecodeError) else named, _LONGEST_REASON)
