"""SHA-256 digests of tensors, files and JSON: the same for the same result, on any day and in any folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_UNSTABLE = frozenset(
    {
        "command",
        "file_size",
        "latency",
        "latency_spread",
        "peak_memory",
        "rate",
        "ratios",
        "seconds",
        "throughput",
        "throughput_spread",
        "version",
    }
)
"""Keys of JSON whose values depend on the clock, the load of the machine, the folder or the release."""

_TEXT = "(text)"
"""Stands for a string with a space or a slash in it: prose may be reworded, and folders differ."""


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """The digest of names, types, shapes and bytes of ``tensors``, in order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """The digest of the bytes of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def json_digest(value: Any) -> str:
    """The digest of JSON without what changes from run to run (`stable`); numbers count to the last digit."""
    return hashlib.sha256(json.dumps(stable(value), sort_keys=True).encode()).hexdigest()


def stable(value: Any) -> Any:
    """``value`` without unstable keys, and with a placeholder for each sentence and path."""
    if isinstance(value, Mapping):
        return {key: stable(item) for key, item in value.items() if key not in _UNSTABLE}
    if isinstance(value, list):
        return [stable(item) for item in value]
    if isinstance(value, str) and (" " in value or "/" in value):
        return _TEXT
    return value
