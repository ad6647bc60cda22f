"""JSON from files of others: bounded, and checked for what it should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tsdistill.errors import TsdistillError

LONGEST = 2**25


def mapping(text: str | bytes, where: str | Path) -> dict[str, Any]:
    """The JSON object in ``text``.

    Raises:
        TsdistillError: no JSON, nested too deeply, or no object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TsdistillError(f"{where} is damaged: it is not JSON; fetch it again") from error
    if not isinstance(value, dict):
        raise TsdistillError(f"{where} is damaged: it is no JSON object; fetch it again")
    return value


def read(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        TsdistillError: as `mapping`; also when the file cannot be read, or is larger than `LONGEST` bytes.
    """
    try:
        if path.stat().st_size > LONGEST:
            raise TsdistillError(f"{path} is damaged: it is larger than {LONGEST} bytes; fetch it again")
        return mapping(path.read_bytes(), path)
    except OSError as error:
        raise TsdistillError(f"{path} cannot be read: {error.strerror or error}") from error
