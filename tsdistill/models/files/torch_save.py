"""Files of torch.save, new and old, read without unpickling; tensors are views of the mapped file."""

from __future__ import annotations

import io
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tsdistill.models.files import unpickler, zip_archive
from tsdistill.models.files.pickled_values import Chunk, Damaged, Foreign, Stored
from tsdistill.models.files.unpickler import MAX_OBJECTS, Pickled
from tsdistill.models.files.zip_archive import Span

_MAX_PICKLE_BYTES = 2**28
"""Bytes of a pickle, 256 MiB. It holds names and descriptions, not numbers: about 110 bytes for
each tensor.
"""

_MAGIC = 0x1950A86A20F9469CFC6C
"""The value of the first pickle in a file of the format before zip (``torch.serialization.MAGIC_NUMBER``).
"""

_PROTOCOL = 1001
"""The value of the second pickle there (``torch.serialization.PROTOCOL_VERSION``)."""

_MAX_TIMES_STORED = 4
"""Bytes of all tensors for each byte of the file: tensors may share a storage or be expanded views of one,
but a file whose tensors claim far more would fill the memory.
"""

_FREE_BYTES = 2**26
"""Bytes of tensors that are allowed whatever the size of the file: 64 MiB."""

_MAX_DEPTH = 40
"""Containers within one another that `load` follows: far above what checkpoints have, far below the depth of
Python's recursion.
"""

_MAX_SHOWN = 3
"""Names of classes in a message, so that it stays on one line."""


@dataclass(frozen=True)
class TorchFile:
    """A file of torch.save: its pickle, and where the storages lie."""

    path: Path
    pickled: Pickled
    spans: Mapping[str, Span]


def tensors(path: Path, stored: Mapping[str, Stored], spans: Mapping[str, Span]) -> dict[str, torch.Tensor]:
    """Tensors by name, mapped from a file.

    Args:
        path: the file.
        stored: what the tensors are.
        spans: where in the file each storage lies, by its key.

    Raises:
        Damaged: a tensor outside of its storage, or more numbers than the file justifies.
    """
    if sum(each.nbytes for each in stored.values()) > _MAX_TIMES_STORED * path.stat().st_size + _FREE_BYTES:
        raise Damaged("its tensors are larger than the file")
    whole: Any = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)
    mapped = {}
    for name, each in stored.items():
        span = spans.get(each.chunk.key)
        if span is None:
            raise Damaged(f"the storage {each.chunk.key[:40]!r} is missing")
        claimed = each.chunk.count * each.chunk.dtype.itemsize
        if claimed > span.nbytes:
            raise Damaged(f"the storage {each.chunk.key[:40]!r} is shorter than it says")
        mapped[name] = _view(whole, Span(span.start, claimed), each)
    return mapped


def load(path: Path) -> Any:
    """What ``torch.save`` wrote, as ``torch.load`` with ``weights_only`` gives it, without unpickling.

    Containers are dicts, lists and tuples, tensors are on the CPU and own their memory.

    Raises:
        Damaged: truncated, damaged (its check sums are not those of its records), or it holds objects.
        OSError: the file cannot be read.
    """
    file = read(path)
    foreign = [*file.pickled.calls, *file.pickled.classes]
    if foreign:
        raise Damaged(f"it holds objects of {', '.join(foreign[:_MAX_SHOWN])}")
    if zip_archive.is_archive(path):
        zip_archive.check_sums(path)
    stored = _stored_in(file.pickled.value)
    whole = tensors(path, stored, file.spans)
    return _TensorInsertion({id(each): whole[name] for name, each in stored.items()}).filled(
        file.pickled.value
    )


def _stored_in(value: Any) -> dict[str, Stored]:
    """Every tensor in a nest once, by a number."""
    stored: dict[str, Stored] = {}
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, Stored):
            stored[str(len(stored))] = each
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, (list, tuple)):
            waiting += each
    return stored


class _TensorInsertion:
    """Puts tensors in place of what describes them.

    Args:
        tensors: by the ``id`` of their descriptions.
    """

    def __init__(self, tensors: Mapping[int, torch.Tensor]) -> None:
        self._tensors = tensors
        self._left = MAX_OBJECTS

    def filled(self, value: Any, depth: int = 0) -> Any:
        """The nest with tensors.

        Raises:
            Damaged: it is nested too deeply or within itself, or repeats its parts without measure.
        """
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            raise Damaged("it is nested too deeply")
        if isinstance(value, Stored):
            return self._tensors[id(value)].clone()
        if isinstance(value, dict):
            return {key: self.filled(each, depth + 1) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.filled(each, depth + 1) for each in value)
        if isinstance(value, (Foreign, Chunk)):
            raise Damaged("it holds objects that are no tensors")
        return value


def read(path: Path) -> TorchFile:
    """Read what ``torch.save`` wrote, but for the tensors' numbers.

    Raises:
        Damaged: truncated, or something else.
        OSError: the file cannot be read.
    """
    return _zipped(path) if zip_archive.is_archive(path) else _legacy(path)


def _view(whole: torch.UntypedStorage, span: Span, each: Stored) -> torch.Tensor:
    """A tensor in the bytes of ``span``.

    Raises:
        Damaged: it reaches beyond them.
    """
    width = each.dtype.itemsize
    if each.nbytes:
        last = each.offset + sum((n - 1) * s for n, s in zip(each.size, each.stride, strict=True))
        if (last + 1) * width > span.nbytes:
            raise Damaged(f"a tensor of shape {list(each.size)[:8]} reaches beyond its storage")
    elif max(each.size) >= 2**31:
        raise Damaged("an empty tensor of immense sides")
    else:
        return torch.empty(each.size, dtype=each.dtype)
    bytes_ = whole[span.start : span.start + span.nbytes]
    if span.start % width:
        bytes_ = bytes_.clone()
    return torch.empty(0, dtype=each.dtype).set_(bytes_, each.offset, each.size, each.stride)


def _zipped(path: Path) -> TorchFile:
    archive = zip_archive.opened(path)
    if "constants.pkl" in archive.records:
        raise Damaged("TorchScript")
    if "byteorder" in archive.records and archive.text("byteorder", 16).strip() != b"little":
        raise Damaged("its numbers are big-endian")
    pickled = unpickler.read(io.BytesIO(archive.text("data.pkl", _MAX_PICKLE_BYTES)))
    spans = {name.removeprefix("data/"): span for name, span in archive.records.items() if "data/" in name}
    return TorchFile(path, pickled, spans)


def _legacy(path: Path) -> TorchFile:
    """The format before zip: pickles one after another, then each storage's length and numbers."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        first = unpickler.read(stream)
        if first.value != _MAGIC:
            return TorchFile(path, first, {})
        if unpickler.read(stream).value != _PROTOCOL:
            raise Damaged("an unknown version of torch.save")
        unpickler.read(stream)
        pickled = unpickler.read(stream)
        keys = unpickler.read(stream).value
        return TorchFile(path, pickled, _storages(stream, keys, pickled))


def _storages(stream: mmap.mmap, keys: Any, pickled: Pickled) -> dict[str, Span]:
    spans: dict[str, Span] = {}
    if not isinstance(keys, list):
        raise Damaged("the list of its storages is missing")
    for key in keys:
        chunk = pickled.chunks.get(key) if isinstance(key, str) else None
        length = stream.read(8)
        if chunk is None or len(length) < 8:
            raise Damaged("its storages end early")
        nbytes = struct.unpack("<q", length)[0] * chunk.dtype.itemsize
        start = stream.tell()
        if nbytes < 0 or start + nbytes > len(stream):
            raise Damaged("its storages end early")
        spans[chunk.key] = Span(start, nbytes)
        stream.seek(start + nbytes)
    return spans
