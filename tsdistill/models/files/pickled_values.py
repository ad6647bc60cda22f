"""Values in pickles of PyTorch: storages, descriptions of tensors, placeholders of other objects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "UntypedStorage": torch.uint8,
}


class Damaged(ValueError):
    """The file does not have its format; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of numbers in a file: the storage's key, type, count as it says, and where a view begins."""

    key: str
    dtype: torch.dtype
    count: int
    begin: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file, not read yet; offset and strides count numbers of ``dtype``."""

    chunk: Chunk
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor when it is laid out densely."""
        return math.prod(self.size) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Foreign:
    """A placeholder of a class, of a function, or of an object of a class, by its name."""

    name: str


def chunk_of(saved: Any) -> Chunk:
    """The run of numbers that a persistent id of PyTorch refers to.

    Raises:
        Damaged: it refers to something else.
    """
    if not isinstance(saved, tuple) or len(saved) < 5 or saved[0] != "storage":
        raise Damaged("a reference to something that is no storage")
    kind, key, count, view = saved[1], saved[2], saved[4], saved[5] if len(saved) > 5 else None
    module, _, short = kind.name.rpartition(".") if isinstance(kind, Foreign) else ("", "", "")
    if short not in _STORAGES or module.partition(".")[0] != "torch":
        raise Damaged(f"a storage of type {short[:40]!r}")
    if not isinstance(key, (str, int)):
        raise Damaged("a storage without a key")
    return Chunk(str(key), _STORAGES[short], _whole(count), 0 if view is None else _whole(view[1]))


def tensor_of(arguments: tuple[Any, ...]) -> Stored:
    """The tensor that ``torch._utils._rebuild_tensor`` and its later versions would make."""
    chunk, offset, size, stride = arguments[:4]
    if not isinstance(chunk, Chunk):
        raise Damaged("a tensor without a storage")
    dtype = chunk.dtype
    if len(arguments) > 6 and isinstance(arguments[6], Foreign):
        named = getattr(torch, arguments[6].name.removeprefix("torch."), None)
        if not isinstance(named, torch.dtype):
            raise Damaged("a tensor of an unknown type")
        dtype = named
    sizes, strides = tuple(map(_whole, size)), tuple(map(_whole, stride))
    if len(sizes) != len(strides) or len(sizes) > 64:
        raise Damaged("a tensor with more strides than dimensions")
    begin = chunk.begin * chunk.dtype.itemsize // dtype.itemsize
    return Stored(chunk, dtype, begin + _whole(offset), sizes, strides)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
        raise Damaged("a size that is no whole number")
    return value
