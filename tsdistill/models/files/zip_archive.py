"""Zip archives as torch.save and torch.export write them: records that lie in the file as they are."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tsdistill.models.files.pickled_values import Damaged
from tsdistill.untrusted import READ_ERRORS

SIGNATURE = b"PK\x03\x04"
_UNREADABLE = (zipfile.BadZipFile, struct.error)
_LOCAL = struct.Struct("<4s22xHH")


@dataclass(frozen=True)
class Span:
    """Where bytes lie in a file."""

    start: int
    nbytes: int


@dataclass(frozen=True)
class Archive:
    """The records of a zip archive, by their names without the archive's own folder.

    Names are keys of a mapping and nothing else: nothing is unpacked to a disk.
    """

    path: Path
    records: dict[str, Span]

    def text(self, name: str, most: int) -> bytes:
        """The bytes of a record of at most ``most`` bytes.

        Raises:
            Damaged: there is no such record, or it is larger.
        """
        span = self.records.get(name)
        if span is None:
            raise Damaged(f"there is no uncompressed record {name[:60]!r}")
        if span.nbytes > most:
            raise Damaged(f"the record {name[:60]!r} of {span.nbytes} bytes is larger than {most}")
        with self.path.open("rb") as file:
            file.seek(span.start)
            return file.read(span.nbytes)


def is_archive(path: Path) -> bool:
    """Whether the file begins as a zip archive does."""
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def check_sums(path: Path) -> None:
    """Read the whole archive and compare each record with its check sum.

    Raises:
        Damaged: one is not what was written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except READ_ERRORS as error:
        raise Damaged(str(error)) from error
    if bad is not None:
        raise Damaged(f"the record {bad[:60]!r} is not what was written")


def opened(path: Path) -> Archive:
    """List the records that are not compressed (PyTorch compresses no numbers), without reading any.

    Raises:
        Damaged: truncated, or records outside of the file.
    """
    length = path.stat().st_size
    records: dict[str, Span] = {}
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                    continue
                file.seek(info.header_offset)
                signature, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
                start = info.header_offset + _LOCAL.size + name + extra
                if signature != SIGNATURE or start + info.file_size > length:
                    raise Damaged(f"the record {info.filename[:60]!r} lies outside of the file")
                inner = info.filename.partition("/")[2] or info.filename
                records.setdefault(inner, Span(start, info.file_size))
    except Damaged:
        raise
    except (*_UNREADABLE, ValueError, LookupError, OverflowError, NotImplementedError) as error:
        raise Damaged(str(error)) from error
    return Archive(path, records)
