"""Arrays from ``.npy`` and ``.npz`` files of others, never more than the file justifies."""

from __future__ import annotations

import math
import warnings
import zipfile
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import psutil

from tsdistill.errors import TsdistillError
from tsdistill.untrusted import check_regular, read_guard

_WAY_OUT = "give plain numeric arrays"
_LONGEST_HEADER = 10_000
"""Characters of an array's header; NumPy's own limit for files that are not trusted."""

_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""Readers of headers by version of the format; later versions hold records with names beyond Latin-1."""


def read_npy(path: Path) -> np.ndarray:
    """The array of an ``.npy`` file, mapped from it.

    Raises:
        TsdistillError: it is damaged, shorter than it says, or holds Python objects.
    """
    check_regular(path)
    with read_guard(path, _WAY_OUT, TokenError), warnings.catch_warnings(action="ignore"):
        with path.open("rb") as file:
            _check_claim(file, path.stat().st_size)
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def read_npz(path: Path, names: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file by name.

    Args:
        path: the file.
        names: those that are read; ``None`` for all. Others are left unread.

    Raises:
        TsdistillError: it is damaged or encrypted, an array is not as long as it says, holds Python objects
            or takes more memory than there is.
    """
    check_regular(path)
    with (
        read_guard(path, _WAY_OUT, TokenError),
        warnings.catch_warnings(action="ignore"),
        zipfile.ZipFile(path) as archive,
    ):
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = [name for name in members if names is None or name in names]
        _check_memory(path, sum(members[name].file_size for name in wanted))
        arrays = {}
        for name in wanted:
            info = members[name]
            with archive.open(info) as file:
                _check_claim(file, info.file_size)
            with archive.open(info) as file:
                array = np.lib.format.read_array(file, allow_pickle=False, max_header_size=_LONGEST_HEADER)
                arrays[name] = native(array)
                if file.read(1):
                    raise ValueError("bytes are left behind the array")
    return arrays


def native(array: np.ndarray) -> np.ndarray:
    """``array`` in memory, in this machine's byte order, which is the one that PyTorch takes."""
    return np.asarray(array, dtype=array.dtype.newbyteorder("="))


def names_in(path: Path) -> list[str]:
    """The names of the arrays in an ``.npz`` file.

    Raises:
        TsdistillError: it is no such file.
    """
    check_regular(path)
    with read_guard(path, _WAY_OUT), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _check_claim(file: IO[bytes], length: int) -> None:
    """Refuse an array whose header claims more, or other, than its ``length`` bytes hold.

    Raises:
        ValueError: it does; NumPy would set the memory aside before it reads.
    """
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError("it holds records, not numbers")
    shape, _, dtype = _HEADERS[version](file, max_header_size=_LONGEST_HEADER)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if not dtype.itemsize:
        raise ValueError(f"it holds {dtype}, which takes no bytes")
    if len(shape) > 32 or min(shape, default=0) < 0:
        raise ValueError(f"the shape {str(shape)[:80]} is none")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > length:
        raise ValueError(f"it says shape {str(shape)[:80]} but holds {length} bytes")


def _check_memory(path: Path, needed: int) -> None:
    available = psutil.virtual_memory().available
    if needed > available:
        raise TsdistillError(
            f"the arrays in {path} take {needed / 1e9:.3g} GB, more than the {available / 1e9:.3g} GB of "
            "memory that are free; save the samples as .npy, which is read from the disk"
        )
