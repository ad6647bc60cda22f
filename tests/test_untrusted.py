import os
import zlib
from pathlib import Path

import pytest

from tsdistill.errors import TsdistillError
from tsdistill.untrusted import READ_ERRORS, check_regular, read_bytes, read_guard, read_text


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "missing", "null"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "null":
        path = Path("a\0b")
    for read in (check_regular, lambda p: read_bytes(p, 9, "way out")):
        with pytest.raises(TsdistillError):
            read(path)


def test_files_have_a_largest_size_and_text_is_text(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xff" * 10)
    assert read_bytes(path, 10, "") == b"\xff" * 10
    with pytest.raises(TsdistillError, match=r"\b9\b.*the way out"):
        read_bytes(path, 9, "the way out")
    with pytest.raises(TsdistillError, match="the way out"):
        read_text(path, 10, "the way out")


@pytest.mark.parametrize(
    "error", [KeyError("x"), zlib.error("bits"), RecursionError(), MemoryError(), OSError(5, "a")]
)
def test_what_readers_raise_is_one_error(error: Exception) -> None:
    with (
        pytest.raises(TsdistillError, match=r"the file.*mend it"),
        read_guard("the file", "mend it"),
    ):
        raise error


def test_what_is_no_reader_s_fault_passes() -> None:
    class Own(Exception):
        pass

    for error in (Own(), TsdistillError("as it is"), KeyboardInterrupt()):
        assert not isinstance(error, READ_ERRORS)
        with pytest.raises(type(error)), read_guard("a", "b"):
            raise error
    with pytest.raises(TsdistillError, match=r"^a .*b$"), read_guard("a", "b", Own):
        raise Own
