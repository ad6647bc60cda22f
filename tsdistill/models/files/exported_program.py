"""Programs of torch.export (``.pt2``): the weights without trust, the program itself with it.

``torch.export.load`` evaluates expressions that the file holds, which is running code of the file's; the
weights lie beside the program as raw numbers and a table in JSON, and are read from there.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from pydantic import Field
from torch import nn

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.files import torch_save, zip_archive
from tsdistill.models.files.pickled_values import Chunk, Damaged, Stored
from tsdistill.schema import LARGEST_DOCUMENT, Entries, Schema, Size, Text, read_json

_TABLE = "data/weights/model_weights_config.json"
_FOLDER = "data/weights/"
_WAY_OUT = "export it again"
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
"""The types of tensors by the numbers that ``torch.export`` writes for them (its schema's ``ScalarType``).
"""


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The parameters and buffers of an exported program, mapped from the file.

    Raises:
        TsdistillError: truncated, damaged, or of a PyTorch before 2.8, which wrote another format.
    """
    try:
        archive = zip_archive.opened(path) if zip_archive.is_archive(path) else None
        if archive is None or _TABLE not in archive.records:
            raise TsdistillError(
                f"{path} is no program of torch.export, or of a PyTorch before 2.8; save program.state_dict "
                "by torch.save instead"
            )
        text = archive.text(_TABLE, LARGEST_DOCUMENT)
        table = read_json(text, _TableFields, _WAY_OUT, path)
        stored: dict[str, Stored] = {}
        spans = {}
        for name, row in table.config.items():
            if row.use_pickle:
                raise Damaged(f"{name[:60]!r} is pickled")
            key = _FOLDER + row.path_name
            if key not in archive.records:
                raise Damaged(f"there is no record {key[:60]!r}")
            spans[name] = archive.records[key]
            stored[name] = _stored(name, spans[name].nbytes, row.tensor_meta)
        return torch_save.tensors(path, stored, spans)
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
        raise TsdistillError(
            f"{path} cannot be loaded by torch.export ({cause_of(error)}); export it again"
        ) from error
    for name in ("train", "eval"):
        module.__dict__.pop(name, None)
    return module


def _stored(name: str, nbytes: int, meta: _MetaFields) -> Stored:
    dtype = _TYPES.get(meta.dtype)
    if dtype is None:
        raise Damaged(f"{name[:60]!r} is of a type that is not read")
    size, stride = (tuple(each.as_int for each in sizes) for sizes in (meta.sizes, meta.strides))
    if len(size) != len(stride):
        raise Damaged(f"{name[:60]!r} has more strides than dimensions")
    chunk = Chunk(name, dtype, nbytes // dtype.itemsize)
    return Stored(chunk, dtype, meta.storage_offset.as_int, size, stride)


class _Number(Schema):
    """A number as torch.export writes it."""

    as_int: Size


class _MetaFields(Schema):
    """How a tensor lies in its record."""

    dtype: int
    sizes: list[_Number] = Field(max_length=64)
    strides: list[_Number] = Field(max_length=64)
    storage_offset: _Number


class _RowFields(Schema):
    """A row of the table of weights."""

    path_name: Text
    use_pickle: bool = False
    tensor_meta: _MetaFields


class _TableFields(Schema):
    """The table of weights."""

    config: Entries[_RowFields]
