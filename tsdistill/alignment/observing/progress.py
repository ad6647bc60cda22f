"""How a long pass over the data says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""Is told the phase, how many samples are done, and of how many (``None`` when nobody knows)."""


def prefixed(progress: Progress | None, prefix: str) -> Progress | None:
    """``progress``, told phases that begin with ``prefix``; ``None`` without it."""
    if progress is None:
        return None
    tell = progress
    return lambda phase, done, total: tell(prefix + phase, done, total)
