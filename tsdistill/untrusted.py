"""Files of others: what may be opened, how much of it is read, and what their readers may raise."""

from __future__ import annotations

import lzma
import pickle
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tsdistill.errors import TsdistillError, cause_of

READ_ERRORS: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, SyntaxError),
    *(AssertionError, RuntimeError, MemoryError, BufferError),
    *(zlib.error, lzma.LZMAError, struct.error, pickle.PickleError, zipfile.BadZipFile, tarfile.TarError),
)
"""What a reader of Python, NumPy, PyTorch or Pillow may raise on damaged bytes: any of them means that the
file cannot be used. Errors that libraries derive from none of these are named where the library is called."""


@contextmanager
def read_guard(what: object, way_out: str, *failures: type[Exception]) -> Iterator[None]:
    """Turn whatever a reader raises into one `TsdistillError`: ``WHAT cannot be read (REASON); WAY OUT``.

    Around calls of readers and nothing else: a fault of the caller's own would be told as the file's.

    Args:
        what: the file, as messages call it.
        way_out: advice for the user, the end of the message.
        failures: what this reader may raise besides `READ_ERRORS`.

    Raises:
        TsdistillError: the block raised one of them.
    """
    try:
        yield
    except (*READ_ERRORS, *failures) as error:
        raise TsdistillError(f"{what} cannot be read ({cause_of(error)}); {way_out}") from error


def check_regular(path: Path) -> None:
    """Refuse what is no file: reading from a pipe or a device may wait or go on for ever.

    Raises:
        TsdistillError: it is a folder, a pipe, a socket or a device, or cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise TsdistillError(
            f"{path} cannot be read ({cause_of(error)}); name a file that is there"
        ) from error
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise TsdistillError(f"{path} cannot be read: it is {kind}, not a file; name a file")


def read_bytes(path: Path, most: int, way_out: str) -> bytes:
    """The bytes of a file of at most ``most``.

    Args:
        path: a regular file.
        most: the largest size, in bytes.
        way_out: advice for the user, the end of the message.

    Raises:
        TsdistillError: it is no file, is larger, or cannot be read.
    """
    check_regular(path)
    with read_guard(path, way_out), path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise TsdistillError(f"{path} is larger than the {most} bytes that such a file takes; {way_out}")
    return data


def read_text(path: Path, most: int, way_out: str) -> str:
    """The UTF-8 text of a file of at most ``most`` bytes.

    Args:
        path: a regular file.
        most: the largest size, in bytes.
        way_out: advice for the user, the end of the message.

    Raises:
        TsdistillError: as `read_bytes`, or it is not text.
    """
    data = read_bytes(path, most, way_out)
    with read_guard(path, way_out):
        return data.decode("utf-8")
