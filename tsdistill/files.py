"""Files that are there whole or not at all.

What is written lies in a scratch folder beside its place until it is whole and on the disk; then it is
renamed.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from tsdistill.errors import TsdistillError, cause_of

if sys.platform != "win32":
    import fcntl

_SCRATCH = re.compile(r"\.tsdistill-[0-9a-f]{16}\.tmp")
_LOCK = "lock"
_FOREIGN_SECONDS = 86_400
"""Age from which the scratch folder of another machine counts as left behind: locks of some network file
systems hold on one machine only, and no single file takes a day to write."""


@contextmanager
def atomic_file(path: str | Path, *failures: type[Exception]) -> Iterator[Path]:
    """A path to write to, with the name of ``path``; see `atomic_files`."""
    with atomic_files([path], *failures) as (temporary,):
        yield temporary


@contextmanager
def atomic_files(paths: Sequence[str | Path], *failures: type[Exception]) -> Iterator[tuple[Path, ...]]:
    """A path to write to for each of ``paths``, with the same name.

    What is there takes the place of ``paths`` when the block ends well, in their order and at once, and goes
    when it does not. A symlink stays: the file that it names is replaced. A device, FIFO or socket stays too:
    the bytes are written to it. A new file gets the permissions that the umask says, one that is replaced
    keeps its own.

    Args:
        paths: the files to be written.
        failures: what a writer may raise besides ``OSError`` when it cannot write.

    Raises:
        TsdistillError: a file cannot be written.
    """
    names = " and ".join(str(path) for path in paths)
    caught: tuple[type[Exception], ...] = (OSError, *failures)
    try:
        with ExitStack() as stack:
            written = [_Written.begin(Path(path), stack) for path in paths]
            yield tuple(each.temporary for each in written)
            for each in written:
                each.settle()
            with _uninterrupted() if len(written) > 1 else nullcontext():
                for each in written:
                    each.move()
    except caught as error:
        raise TsdistillError(f"{names} cannot be written ({cause_of(error)}); name another") from error


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of ``path`` when the block ends well.

    Raises:
        TsdistillError: the folder cannot be written.
    """
    path = Path(path)
    try:
        target = Path(os.path.realpath(path))
        with scratch(target.parent) as place:
            temporary = place / target.name
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _settle(file, _new_mode(place))
            if target.is_dir():
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            os.replace(temporary, target)
            _sync_folder(target.parent)
    except OSError as error:
        raise TsdistillError(f"{path} cannot be written ({cause_of(error)}); name another") from error


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A new folder inside ``folder`` that nobody else can name or read; it goes when the block ends.

    Those that killed processes have left in ``folder`` go first.

    Raises:
        OSError: it cannot be made.
    """
    sweep(folder)
    place, lock = _locked(folder)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)


def sweep(folder: Path) -> None:
    """Remove the scratch folders in ``folder`` whose processes are gone; nothing else."""
    try:
        with os.scandir(folder) as entries:
            folders = [
                each.path for each in entries if _SCRATCH.fullmatch(each.name) and not each.is_symlink()
            ]
    except OSError:
        return
    for place in folders:
        with suppress(OSError):
            _sweep_one(Path(place))


def _sweep_one(place: Path) -> None:
    """Remove a scratch folder unless its lock is held.

    Raises:
        OSError: it is held, is somebody else's, or is gone.
    """
    age = time.time() - place.stat().st_mtime
    lock = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        _lock(lock, wait=False)
        machine = os.read(lock, 1024).decode(errors="replace")
        if machine in ("", platform.node()) or age > _FOREIGN_SECONDS:
            shutil.rmtree(place, ignore_errors=True)
    finally:
        os.close(lock)


def _locked(folder: Path) -> tuple[Path, int]:
    """A new scratch folder and the open lock in it, which a process holds as long as it lives.

    A process that sweeps may take the folder before it is locked; then it is made once more.
    """
    while True:
        place = folder / f".tsdistill-{secrets.token_hex(8)}.tmp"
        place.mkdir(mode=0o700)
        try:
            lock = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except (FileExistsError, FileNotFoundError):
            continue
        with suppress(OSError):
            _lock(lock, wait=True)
        try:
            if os.path.samestat(os.fstat(lock), os.stat(place / _LOCK)):
                os.write(lock, platform.node().encode())
                return place, lock
        except FileNotFoundError:
            pass
        os.close(lock)


def _lock(handle: int, *, wait: bool) -> None:
    """Lock an open file against other processes.

    Raises:
        OSError: it is locked already, or there are no locks here.
    """
    if sys.platform == "win32":
        raise OSError("no advisory locks on this system")
    fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@dataclass(frozen=True)
class _Written:
    """A file under way.

    Attributes:
        path: as it was named.
        target: the regular file that is replaced; ``None`` for what is written to where it is.
        beside: where it is written for now, in a scratch folder.
    """

    path: Path
    target: Path | None
    temporary: Path

    @classmethod
    def begin(cls, path: Path, stack: ExitStack) -> _Written:
        """Make room for a file in a scratch folder that goes with ``stack``."""
        target = replaced(path)
        folder = Path(tempfile.gettempdir()) if target is None else target.parent
        return cls(path, target, stack.enter_context(scratch(folder)) / path.name)

    def settle(self) -> None:
        """Give the file its permissions and see that it is on the disk; write what stays where it is."""
        if self.target is None:
            _pour(self.temporary, self.path)
            return
        mode = _new_mode(self.temporary.parent)
        with suppress(FileNotFoundError):
            before = self.target.stat()
            mode = before.st_mode & 0o777
            if hasattr(os, "chown"):
                with suppress(PermissionError):
                    os.chown(self.temporary, before.st_uid, before.st_gid)
        _settle(self.temporary, mode)

    def move(self) -> None:
        """Put the file where it belongs."""
        if self.target is not None:
            os.replace(self.temporary, self.target)
            _sync_folder(self.target.parent)


def replaced(path: Path) -> Path | None:
    """The regular file that writing to ``path`` replaces, there already or not: where symlinks lead.

    ``None`` for a device, a FIFO, a socket or an open file without a name, which are written to.

    Raises:
        OSError: ``path`` is a folder, or symlinks that go round in circles.
    """
    target = Path(os.path.realpath(path))
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if stat.S_ISREG(status.st_mode) and target.exists() and os.path.samestat(status, target.stat()):
        return target
    return None


def _settle(file: Path, mode: int) -> None:
    with open(file, "r+b") as handle:
        os.chmod(file, mode)
        os.fsync(handle.fileno())


def _new_mode(place: Path) -> int:
    """The permissions of a new file as the umask says, read off the lock in a scratch folder."""
    return (place / _LOCK).stat().st_mode & 0o777


def _pour(source: Path, path: Path) -> None:
    """Write the bytes of ``source`` to a device, FIFO or socket."""
    with source.open("rb") as contents:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.connect(str(path))
                line.sendfile(contents)
            return
        with open(os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0)), "wb") as sink:
            shutil.copyfileobj(contents, sink)


def _sync_folder(folder: Path) -> None:
    """See that a rename is on the disk, where the file system can say so."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block ends, so that files which belong together move together."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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


@contextmanager
def filled_folder(path: str | Path) -> Iterator[Path]:
    """The folder ``path`` as `made_folder` makes it; the folders that were made are removed again when the
    block fails and nothing is in them.

    Raises:
        TsdistillError: it cannot be made.
    """
    path = Path(path)
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    made_folder(path)
    try:
        yield path
    except BaseException:
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()
        raise
