"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tsdistill.errors import TsdistillError


@contextmanager
def replacing(path: str | Path, *failures: type[Exception]) -> Iterator[Path]:
    """A path beside ``path`` to write to, with the same suffix.

    What is there takes the place of ``path`` when the block ends well, and goes when it does not.

    Args:
        path: the file to be written.
        failures: what a writer may raise besides ``OSError`` when it cannot write.

    Raises:
        TsdistillError: the file cannot be written.
    """
    path = Path(path)
    caught: tuple[type[Exception], ...] = (OSError, *failures)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    except caught as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        reason = getattr(error, "strerror", None) or said
        raise TsdistillError(f"{path} cannot be written ({reason}); name another") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """A new folder beside ``path`` to write into, which takes its place when the block ends well.

    Raises:
        TsdistillError: the folder cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.mkdir()
        yield beside
        os.replace(beside, path)
    except OSError as error:
        raise TsdistillError(f"{path} cannot be written ({error.strerror or error}); name another") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_new_folder(path: str | Path) -> Path:
    """Refuse a path that no new folder could be made at; an empty one may be there.

    Raises:
        TsdistillError: there is something, or the folder above is missing or cannot be written in.
    """
    path = Path(path)
    if path.is_dir() and any(path.iterdir()):
        raise TsdistillError(f"the folder {path} is not empty; name another")
    _check_above(path)
    return path


def check_place(path: str | Path) -> Path:
    """Refuse a path that no file could be written to, before any work is done.

    Raises:
        TsdistillError: it is a folder, or its folder is missing or cannot be written in.
    """
    path = Path(path)
    if path.is_dir():
        raise TsdistillError(f"{path} is a folder; name a file")
    _check_above(path)
    return path


def _check_above(path: Path) -> None:
    if not path.parent.is_dir():
        raise TsdistillError(f"{path}: the folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise TsdistillError(f"{path}: the folder {path.parent} cannot be written in; name another")


def made_folder(path: str | Path) -> Path:
    """The folder ``path``, made with those above it where it is missing.

    Raises:
        TsdistillError: it cannot be made.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TsdistillError(f"the folder {path} cannot be made ({error.strerror}); name another") from error
    return path
