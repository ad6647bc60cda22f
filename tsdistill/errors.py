"""The one exception that reaches users as a single line."""


class TsdistillError(Exception):
    """Something a user gave cannot be used.

    The message is one line that says what is wrong, where, and the way out. The command line prints it to
    stderr and exits with code 2; in Python it is raised as it is.
    """


class BudgetUnreachable(TsdistillError):
    """A budget below the smallest that the model can be cut to."""
