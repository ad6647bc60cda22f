"""Parts of an experiment that are finished, kept as files, so that a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tsdistill.files import replacing


def kept(folder: Path | None, key: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """What ``make`` gives, from the file where it is kept if it was made before with the same ``key``.

    Args:
        folder: where files are; ``None``: nothing is kept.
        key: everything that decides the result, as JSON can hold it.
        make: gives a result that JSON can hold.

    Raises:
        TsdistillError: the folder cannot be written.
    """
    if folder is None:
        return make()
    text = json.dumps(key, sort_keys=True)
    path = folder / f"{key.get('what', 'cell')}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if path.is_file():
        try:
            found = json.loads(path.read_text())
            if found["key"] == json.loads(text):
                return found["value"]
        except (ValueError, KeyError, TypeError):
            pass  # a file that was damaged is made again
    value = make()
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_text(json.dumps({"key": key, "value": value}))
    return json.loads(json.dumps(value))
