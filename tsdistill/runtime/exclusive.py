"""The lock of everything that sets state of the whole process."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()


@contextmanager
def exclusive() -> Iterator[None]:
    """Hold the one lock of this process; a thread that holds it may enter again.

    PyTorch keeps the generators of random numbers, the choice of attention kernels, the fused path of
    ``nn.MultiheadAttention`` and the hooks of all modules per process, not per thread. Whoever sets one of
    them does so inside this block and puts it back before the block ends, so that calls from several threads
    take turns and give what they give one after another. Threads gain no time; processes do.
    """
    with _lock:
        yield


@contextmanager
def without_collector() -> Iterator[None]:
    """Python does not look for unreachable cycles of objects inside the block.

    It would do so after every few hundred new objects, and each time in ten walk through objects that other
    code made, which was measured to take a fifth of the time of a trace. What is in no cycle is freed at once
    all the same.
    """
    with exclusive():
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if enabled:
                gc.enable()


def _renew() -> None:
    """A forked child gets a free lock: the thread that held it does not exist there."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
