"""A file is there whole or as it was, and nothing else is touched."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tsdistill import files
from tsdistill.errors import TsdistillError
from tsdistill.files import atomic_file, atomic_files, atomic_folder, scratch

HELD = """
import sys, time
from pathlib import Path
from tsdistill.files import atomic_file
with atomic_file(Path(sys.argv[1])) as beside:
    beside.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def write(path: Path, text: str) -> None:
    with atomic_file(path) as beside:
        beside.write_text(text)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is in the middle of writing ``tmp_path / "file"``."""
    writer = subprocess.Popen(
        [sys.executable, "-c", HELD, str(tmp_path / "file")], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    yield writer
    writer.kill()
    writer.wait()


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("old")
    with suppress(KeyboardInterrupt), atomic_file(path) as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with atomic_file(path) as beside:
        assert beside.name == path.name
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(TsdistillError, match=r"missing/x\.txt"),
        atomic_file(tmp_path / "missing" / "x.txt") as beside,
    ):
        beside.write_text("x")
    with (
        pytest.raises(TsdistillError, match="no such format"),
        atomic_file(tmp_path / "x.txt", ValueError),
    ):
        raise ValueError("no such format")
    with pytest.raises(ValueError, match="our own"), atomic_file(tmp_path / "x.txt"):
        raise ValueError("our own")


def test_files_that_belong_together_are_all_new_or_all_old(tmp_path: Path) -> None:
    paths = [tmp_path / "x.py", tmp_path / "x.safetensors"]
    for path in paths:
        path.write_text("old")
    with pytest.raises(TsdistillError, match=r"x\.py and .*x\.safetensors"), atomic_files(paths) as (one, _):
        one.write_text("new")
    assert [path.read_text() for path in paths] == ["old", "old"]
    with atomic_files(paths) as beside:
        for path in beside:
            path.write_text("new")
    assert [path.read_text() for path in paths] == ["new", "new"]
    assert sorted(tmp_path.iterdir()) == paths


def test_what_is_written_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, move = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{handle}"))
        sync(handle)

    def moved(*names: Path) -> None:
        done.append("rename")
        move(*names)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", moved)
    write(tmp_path / "file", "text")
    assert [Path(each).name for each in done] == ["file", "rename", tmp_path.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_a_device_stays_a_device(tmp_path: Path) -> None:
    for name, minor in (("null", 3), ("full", 7)):
        os.mknod(tmp_path / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
    write(tmp_path / "null", "text")
    with pytest.raises(TsdistillError, match="space"):
        write(tmp_path / "full", "text")
    assert all(path.is_char_device() for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 2


def test_a_fifo_and_a_socket_are_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.append(Path("pipe").read_text()))
    reader.start()
    write(Path("pipe"), "text")
    reader.join(20)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("line")
        server.listen()
        reader = threading.Thread(target=lambda: said.append(server.accept()[0].recv(99).decode()))
        reader.start()
        write(Path("line"), "more")
        reader.join(20)
    assert said == ["text", "more"]
    assert Path("pipe").is_fifo()
    assert Path("line").is_socket()


def test_a_symlink_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "target", tmp_path / "link"
    link.symlink_to("elsewhere/target")
    for text in ("made", "replaced"):
        write(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    with pytest.raises(TsdistillError, match="circle"):
        write(circle, "text")


@pytest.mark.parametrize(("mask", "wanted"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_permissions_follow_the_umask_or_the_file_before(tmp_path: Path, mask: int, wanted: int) -> None:
    before = os.umask(mask)
    try:
        with atomic_file(tmp_path / "file") as beside:
            os.close(os.open(beside, os.O_CREAT | os.O_WRONLY, 0o600))
        with atomic_folder(tmp_path / "folder") as beside:
            os.close(os.open(beside / "file", os.O_CREAT | os.O_WRONLY, 0o600))
        assert mode(tmp_path / "file") == mode(tmp_path / "folder" / "file") == wanted
        assert mode(tmp_path / "folder") == 0o777 & ~mask
        (tmp_path / "file").chmod(0o664)
        write(tmp_path / "file", "text")
        assert mode(tmp_path / "file") == 0o664
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    write(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


def test_threads_do_not_meet(tmp_path: Path) -> None:
    texts = [str(number) * 10_000 for number in range(8)]
    path = tmp_path / "file"
    threads = [threading.Thread(target=write, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_taken_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    place = tmp_path / "place"
    place.mkdir()
    (place / f".tsdistill-{'a' * 16}.tmp").symlink_to(outside)
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "a" * 2 * count)
    with pytest.raises(TsdistillError, match="file"):
        write(place / "file", "text")
    assert list(outside.iterdir()) == []


def test_litter_of_a_killed_run_goes_and_nothing_else(tmp_path: Path, held: subprocess.Popen[str]) -> None:
    names = (".notes.tmp", ".x.1.tmp.pt", ".tsdistill-notes", ".check.safetensors")
    mine = [tmp_path / name for name in names]
    for path in mine:
        path.write_text("mine")
    write(tmp_path / "other", "text")
    assert len(list(tmp_path.glob(".tsdistill-*.tmp"))) == 1, "a run that is alive keeps its scratch folder"
    held.send_signal(signal.SIGKILL)
    held.wait()
    write(tmp_path / "other", "text")
    assert sorted(tmp_path.iterdir()) == sorted([*mine, tmp_path / "other"])


def test_another_machine_s_scratch_folder_stays_for_a_day(tmp_path: Path) -> None:
    with scratch(tmp_path) as place:
        left = tmp_path / f".tsdistill-{'b' * 16}.tmp"
        left.mkdir()
        (left / "lock").write_text("another machine")
        (left / "file").write_text("half")
        files.sweep(tmp_path)
        assert left.exists()
        old = place.stat().st_mtime - 2 * 86_400
        os.utime(left, (old, old))
        files.sweep(tmp_path)
        assert not left.exists()
        assert place.exists()
