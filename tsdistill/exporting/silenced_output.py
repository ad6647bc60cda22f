"""Suppression of what exporters print, warn and log."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from tsdistill.runtime.exclusive import exclusive


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what is printed, warned and logged meanwhile."""
    with exclusive():
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        finally:
            logging.disable(before)
