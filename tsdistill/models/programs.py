"""Programs of torch.export (``.pt2``): the weights without trust, the program itself with it.

``torch.export.load`` evaluates expressions that the file holds, which is running code of the file's; the
weights lie beside the program as raw numbers and a table in JSON, and are read from there.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.models import archives, json_text, torch_files
from tsdistill.models.checking import Checker
from tsdistill.models.pickled_values import Chunk, Damaged, Stored

_TABLE = "data/weights/model_weights_config.json"
_FOLDER = "data/weights/"
_TYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    10: torch.complex64,
    11: torch.complex128,
    12: torch.bool,
    13: torch.bfloat16,
}


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The parameters and buffers of an exported program, mapped from the file.

    Raises:
        TsdistillError: truncated, damaged, or of a PyTorch before 2.8, which wrote another format.
    """
    try:
        archive = archives.opened(path) if archives.is_archive(path) else None
        if archive is None or _TABLE not in archive.records:
            raise TsdistillError(
                f"{path} is no program of torch.export, or of a PyTorch before 2.8; save program.state_dict "
                "by torch.save instead"
            )
        table = json_text.mapping(archive.text(_TABLE, json_text.LONGEST), path)
        check = Checker(path)
        stored: dict[str, Stored] = {}
        spans = {}
        for name, row in check.mapping(table.get("config"), "the table of weights").items():
            fields = check.mapping(row, "a row of the table of weights")
            if fields.get("use_pickle"):
                raise check.error(f"{name[:60]!r} is pickled")
            key = _FOLDER + check.text(fields.get("path_name"), "path_name")
            if key not in archive.records:
                raise Damaged(f"there is no record {key[:60]!r}")
            spans[name] = archive.records[key]
            stored[name] = _stored(name, spans[name].nbytes, fields.get("tensor_meta"), check)
        return torch_files.tensors(path, stored, spans)
    except Damaged as error:
        raise TsdistillError(f"{path} is truncated or damaged ({error}); export it again") from error


def program(path: Path) -> nn.Module:
    """The exported module, which runs as it was exported: shapes that were fixed then stay so.

    Raises:
        TsdistillError: PyTorch cannot load it.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            module = torch.export.load(path).module()
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise TsdistillError(f"{path} cannot be loaded by torch.export ({said}); export it again") from error
    for name in ("train", "eval"):
        module.__dict__.pop(name, None)
    return module


def _stored(name: str, nbytes: int, meta: Any, check: Checker) -> Stored:
    fields = check.mapping(meta, "tensor_meta")
    dtype = _TYPES.get(check.integer(fields.get("dtype"), "dtype"))
    if dtype is None:
        raise check.error(f"{name[:60]!r} is of a type that is not read")
    size, stride = (
        tuple(_whole(item, key, check) for item in check.sequence(fields.get(key), key))
        for key in ("sizes", "strides")
    )
    if len(size) != len(stride):
        raise check.error(f"{name[:60]!r} has more strides than dimensions")
    chunk = Chunk(name, dtype, nbytes // dtype.itemsize)
    return Stored(chunk, dtype, _whole(fields.get("storage_offset"), "storage_offset", check), size, stride)


def _whole(value: Any, name: str, check: Checker) -> int:
    number = check.integer(check.mapping(value, name).get("as_int"), name)
    if number < 0:
        raise check.error(f"{name!r} is negative")
    return number
