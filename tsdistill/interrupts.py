"""Ctrl-C where the process does no work yet, or none any more."""

from __future__ import annotations

import os
from typing import NoReturn

INTERRUPTED = 130
"""Exit code of a process that Ctrl-C stopped: 128 and the number of SIGINT, as shells report it."""


def leave(*_: object) -> NoReturn:
    """Handle SIGINT: end the process at once and quietly; there is nothing to report or to clean up.

    It raises nothing, because libraries swallow exceptions that come while they are imported.
    """
    os._exit(INTERRUPTED)
