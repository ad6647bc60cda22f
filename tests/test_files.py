from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from tsdistill.errors import TsdistillError
from tsdistill.files import replacing


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("old")
    with suppress(KeyboardInterrupt), replacing(path) as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with replacing(path) as beside:
        assert beside.suffix == ".json"
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(TsdistillError, match=r"missing/x\.txt cannot be written \(No such file"),
        replacing(tmp_path / "missing" / "x.txt") as beside,
    ):
        beside.write_text("x")
    with (
        pytest.raises(TsdistillError, match=r"\(ValueError: no such format\)"),
        replacing(tmp_path / "x.txt", ValueError),
    ):
        raise ValueError("no such format")
    with pytest.raises(ValueError, match="our own"), replacing(tmp_path / "x.txt"):
        raise ValueError("our own")
