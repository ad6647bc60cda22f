"""The one exception that reaches users as a single line."""

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
