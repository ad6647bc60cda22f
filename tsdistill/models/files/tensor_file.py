"""Writing ``.safetensors`` so that the same tensors and metadata give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch

_LENGTH = 8
"""Bytes at the start of a file, which hold the length of the header (little-endian)."""


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write contiguous ``tensors`` on the CPU and ``metadata`` to ``path``.

    The library writes metadata in an order that changes from process to process; here they are sorted.

    Args:
        path: the file.
        tensors: contiguous tensors on the CPU, by name.
        metadata: texts by key.

    Raises:
        OSError: the file cannot be written.
        SafetensorError: the tensors cannot be written.
    """
    safetensors.torch.save_file(dict(tensors), path, metadata=dict(metadata))
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(text) != length:
            raise OSError(f"the header of {path.name} does not keep its length")
        file.seek(_LENGTH)
        file.write(text)
