"""Finished parts of a long experiment in files, so that one that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from tsdistill.files import made_folder, replacing
from tsdistill.models.files.tensor_file import write_tensors


def kept(folder: Path | None, name: str, key: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """What ``make`` gives, taken from a file when the same was made before.

    Args:
        folder: where files are; made when it is not there; ``None``: nothing is kept.
        name: what the file's name starts with.
        key: everything that decides the result; a file made with another is left alone.
        make: gives what JSON can hold.

    Raises:
        TsdistillError: a file cannot be written.
    """
    if folder is None:
        return make()
    path = _path(folder, name, key, "json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["key"] == _plain(key):
            return found["value"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    made_folder(folder)
    value = make()
    with replacing(path) as beside:
        beside.write_text(json.dumps({"key": key, "value": value}), encoding="utf-8")
    return value


def kept_tensors(
    folder: Path | None,
    name: str,
    key: Mapping[str, Any],
    make: Callable[[], tuple[dict[str, Tensor], Any]],
) -> tuple[dict[str, Tensor], Any]:
    """As `kept`, for tensors by name and something that JSON can hold.

    Raises:
        TsdistillError: a file cannot be written.
    """
    if folder is None:
        return make()
    path = _path(folder, name, key, "safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            noted = file.metadata()
            if json.loads(noted["key"]) == _plain(key):
                return {each: file.get_tensor(each) for each in file.keys()}, json.loads(noted["value"])  # noqa: SIM118
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        pass
    made_folder(folder)
    tensors, value = make()
    with replacing(path, SafetensorError) as beside:
        whole = {each: tensor.contiguous() for each, tensor in tensors.items()}
        write_tensors(beside, whole, {"key": json.dumps(key), "value": json.dumps(value)})
    return tensors, value


def _path(folder: Path, name: str, key: Mapping[str, Any], suffix: str) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    return folder / f"{name}-{digest}.{suffix}"


def _plain(key: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(key))
