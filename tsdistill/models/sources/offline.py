"""Weights that other libraries fetch: without a network they are looked for in the cache only, quietly."""

from __future__ import annotations

import io
import logging
import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from urllib.parse import urlsplit

from huggingface_hub import constants

_TIMEOUT = 3.0
"""Seconds in which the name of the hub's host has to be found."""


@contextmanager
def quiet_downloads() -> Iterator[None]:
    """While libraries fetch weights: what they say goes to stderr; without a network no retries, no word."""
    log = logging.getLogger("huggingface_hub")
    level, offline = log.level, constants.HF_HUB_OFFLINE
    log.setLevel(logging.ERROR)
    constants.HF_HUB_OFFLINE = offline or not _reachable()
    try:
        if constants.HF_HUB_OFFLINE:
            nowhere = io.StringIO()
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield
        else:
            with redirect_stdout(sys.stderr):
                yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        log.setLevel(level)


def _reachable() -> bool:
    """Whether the hub's host has an address (behind a proxy that is the proxy's affair)."""
    if urllib.request.getproxies():
        return True
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    finally:
        socket.setdefaulttimeout(before)
    return True
