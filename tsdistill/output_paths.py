"""What a command will write, checked before it starts: no output destroys an input or another output."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.files import replaced
from tsdistill.imported_code import CATALOGS

STDOUT = "-"


@dataclass(frozen=True)
class Output:
    """A file that will be written, or a folder that will be written into.

    Attributes:
        option: what a message calls it: ``"--json"``.
        path: where; ``-`` for stdout, ``None`` for an output that is not asked for.
        names: of a folder, the files that come to lie in it, as patterns of ``fnmatch`` relative to it; empty
            for a file.
    """

    option: str
    path: str | Path | None
    names: Sequence[str] = ()

    @property
    def place(self) -> Path:
        """The path."""
        return Path(str(self.path))

    def __str__(self) -> str:
        return f"{self.option} {self.path}"


@dataclass(frozen=True)
class Input:
    """What a command reads.

    Attributes:
        option: what a message calls it: ``"MODEL"``.
        value: a path, or a text that may hold one: ``file.py:factory``, ``fashion-mnist:DIR``.
    """

    option: str
    value: Any


def check_place(path: str | Path) -> Path:
    """Refuse a path that no file could be written to, before any work is done.

    Raises:
        TsdistillError: it is a folder or write-protected, or its folder is missing or cannot be written in.
    """
    path = Path(path)
    try:
        target = replaced(path)
    except IsADirectoryError:
        raise TsdistillError(f"{path} is a folder; name a file") from None
    except OSError as error:
        raise TsdistillError(f"{path} cannot be written ({cause_of(error)}); name another") from error
    if path.exists() and not os.access(path, os.W_OK):
        raise TsdistillError(f"{path} is write-protected; name another")
    if target is not None:
        _check_above(path, target)
    return path


def check_folder(path: str | Path, *, empty: bool = False) -> Path:
    """Refuse a folder that could not be made or written in, before any work is done.

    Args:
        path: the folder.
        empty: refuse one that has something in it; an empty one, or a link, is replaced.

    Raises:
        TsdistillError: the path is a file, or the folder it would be made in is missing or cannot be written
            in.
    """
    path = Path(path)
    if path.is_dir():
        if empty and any(path.iterdir()):
            raise TsdistillError(f"the folder {path} is not empty; name another")
        if not empty and not os.access(path, os.W_OK | os.X_OK):
            raise TsdistillError(f"{path}: cannot write in {path}; name another")
        if not empty:
            return path
    elif os.path.lexists(path) and not (empty and path.is_symlink()):
        what = "a symlink to nothing" if path.is_symlink() else "a file"
        raise TsdistillError(f"{path} is {what}; name a folder")
    _check_above(path, Path(os.path.realpath(path)))
    return path


def _check_above(path: Path, target: Path) -> None:
    """Refuse ``target``, which ``path`` leads to, when nothing could be made there."""
    if not target.parent.is_dir():
        folder = path.parent if target.parent == Path(os.path.realpath(path.parent)) else target.parent
        raise TsdistillError(f"{path}: the folder {folder} does not exist; create it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise TsdistillError(f"{path}: the folder {target.parent} cannot be written in; name another")


def check_outputs(outputs: Iterable[Output], inputs: Iterable[Input] = ()) -> None:
    """Refuse outputs that cannot be written, or that would destroy what the command reads or writes.

    Files are distinguished by device and inode, so that links and other spellings of a path count as one. An
    output may replace what an earlier run has left at its place, but no file in a folder that is read.

    Raises:
        TsdistillError: says which output, and what it would destroy.
    """
    asked = [each for each in outputs if each.path is not None]
    files = [each for each in asked if not each.names and str(each.path) != STDOUT]
    folders = [each for each in asked if each.names]
    for each in files:
        check_place(each.place)
    for each in folders:
        check_folder(each.place)
    _check_stdout(asked, files)
    _check_apart(files, folders)
    for option_input in inputs:
        for path in paths_in(option_input.value):
            _check_kept(option_input.option, path, files, folders)


def paths_in(value: Any) -> Iterator[Path]:
    """The files and folders that exist and that an option's value names."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from paths_in(item)
        return
    if not isinstance(value, str | Path):
        return
    text = str(value)
    spellings = {text}
    if text.partition(":")[0] not in CATALOGS:
        rest = text.partition(":")[2]
        spellings |= {text.rpartition(":")[0], rest, rest.partition(",")[0], text.partition("=")[2]}
    for spelling in sorted(spellings - {"", "."} | {text} - {""}):
        path = Path(spelling).expanduser()
        if _stat(path) is not None:
            yield path


def _check_stdout(asked: Sequence[Output], files: Sequence[Output]) -> None:
    """Refuse two outputs on stdout, and a file that the shell has pointed stdout or stderr to.

    Raises:
        TsdistillError: names them.
    """
    out = [each.option for each in asked if str(each.path) == STDOUT]
    if len(out) > 1:
        raise TsdistillError(f"{' and '.join(out)} cannot both go to stdout; name a file for one of them")
    for name, stream in (("stdout", sys.__stdout__), ("stderr", sys.__stderr__)):
        try:
            opened = None if stream is None else os.fstat(stream.fileno())
        except (OSError, ValueError):
            continue
        for each in files:
            status = _stat(each.place)
            if opened and status and stat.S_ISREG(status.st_mode) and os.path.samestat(opened, status):
                raise TsdistillError(f"{each} is the file that {name} goes to; name another")


def _check_apart(files: Sequence[Output], folders: Sequence[Output]) -> None:
    """Refuse two outputs at one place.

    Raises:
        TsdistillError: names both.
    """
    places: dict[Any, Output] = {}
    for each in (*files, *folders):
        place = _place(each.place)
        if place is None:
            continue
        other = places.setdefault(place, each)
        if other is not each:
            raise TsdistillError(f"{other} and {each} are one place; name two")
    for folder in folders:
        for each in files:
            if _lies_in(each.place, folder):
                raise TsdistillError(f"{each} is a file that {folder} writes as well; name another")


def _check_kept(option: str, input_path: Path, files: Sequence[Output], folders: Sequence[Output]) -> None:
    """Refuse to write over what is read.

    Raises:
        TsdistillError: names the output and the option that reads it.
    """
    input_status = _stat(input_path)
    if input_status is None or not (stat.S_ISREG(input_status.st_mode) or stat.S_ISDIR(input_status.st_mode)):
        return
    whole = stat.S_ISDIR(input_status.st_mode)
    for each in files:
        path = each.place
        output_status = _stat(path)
        if output_status is None or not stat.S_ISREG(output_status.st_mode):
            continue
        above = (_stat(folder) for folder in Path(os.path.realpath(path)).parents) if whole else ()
        if os.path.samestat(output_status, input_status) or any(
            a and os.path.samestat(a, input_status) for a in above
        ):
            where = f"in {input_path}, which {option} reads" if whole else f"what {option} reads"
            raise TsdistillError(f"{each} is {where}; name another")
    for folder in folders:
        for path in _existing_files(folder):
            output_status = _stat(path)
            same = output_status is not None and os.path.samestat(output_status, input_status)
            if same or (whole and os.path.samestat(os.stat(path.parent), input_status)):
                raise TsdistillError(f"{folder} would replace {path}, which {option} reads; name another")


def _existing_files(folder: Output) -> Iterator[Path]:
    """The files that exist in a folder and would be written."""
    for pattern in folder.names:
        yield from sorted(folder.place.glob(pattern))


def _lies_in(path: Path, folder: Output) -> bool:
    """Whether a file is one of those that are written into a folder, there already or not."""
    root = Path(os.path.realpath(folder.place))
    target = Path(os.path.realpath(path))
    if any(_same(path, other) for other in _existing_files(folder)):
        return True
    if not target.is_relative_to(root):
        return False
    relative = target.relative_to(root)
    return any(
        len(Path(pattern).parts) == len(relative.parts) and fnmatchcase(relative.as_posix(), pattern)
        for pattern in folder.names
    )


def _place(path: Path) -> Any:
    """What two spellings of one file have in common; ``None`` for a terminal or another character device."""
    status = _stat(path)
    if status is not None:
        return None if stat.S_ISCHR(status.st_mode) else (status.st_dev, status.st_ino)
    target = Path(os.path.realpath(path))
    above = _stat(target.parent)
    return str(target) if above is None else (above.st_dev, above.st_ino, target.name)


def _same(one: Path, other: Path) -> bool:
    first, second = _stat(one), _stat(other)
    return first is not None and second is not None and os.path.samestat(first, second)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None
