"""No output destroys what a command reads or writes besides."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tsdistill.errors import TsdistillError
from tsdistill.output_paths import Input, Output, check_folder, check_outputs, check_place, paths_in


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a test: a file in a folder, and other names of it."""
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("folder/file").write_text("text")
    os.link("folder/file", "hard")
    Path("soft").symlink_to("folder/file")
    Path("alias").symlink_to("folder")
    return tmp_path


SPELLINGS = ["folder/file", "hard", "soft", "alias/file", "./folder/../folder/file"]


@pytest.mark.parametrize("name", SPELLINGS)
def test_an_output_is_no_input_by_any_name(name: str) -> None:
    for value in ("folder/file", Path("folder/file"), ("x", "folder/file"), "folder/file:factory"):
        with pytest.raises(TsdistillError, match=r"--json.*MODEL"):
            check_outputs([Output("--json", name)], [Input("MODEL", value)])
    check_outputs([Output("--json", name)], [Input("MODEL", "timm:folder"), Input("--samples", 3)])


@pytest.mark.parametrize("name", SPELLINGS)
def test_outputs_differ(name: str) -> None:
    with pytest.raises(TsdistillError, match=r"-o.*--json"):
        check_outputs([Output("-o", "folder/file"), Output("--json", name)])


def test_outputs_that_are_not_there_yet_differ(place: Path) -> None:
    for name in ("folder/new", "alias/new", str(place / "folder" / "new")):
        with pytest.raises(TsdistillError, match=r"-o.*--json"):
            check_outputs([Output("-o", "folder/new"), Output("--json", name)])
    check_outputs([Output("-o", "folder/new"), Output("--json", "folder/other"), Output("--plot", None)])


def test_files_in_a_folder_that_is_written_into_count() -> None:
    for name in ("folder/model.pt", "alias/model.pt", "folder/checkpoints/last.pt", "folder/a-3.png"):
        folder = Output("-o", "folder", ("model.pt", "checkpoints/*", "a-[0-9].png"))
        with pytest.raises(TsdistillError, match=r"-o.*--json|--json.*-o"):
            check_outputs([folder, Output("--json", name if "checkpoints" not in name else _made(name))])
    check_outputs([Output("-o", "folder", ("model.pt",)), Output("--json", "folder/other.pt")])
    with pytest.raises(TsdistillError, match=r"folder/file.*STUDENT"):
        check_outputs([Output("-o", "folder", ("f*",))], [Input("STUDENT", "hard")])
    check_outputs([Output("-o", "folder", ("model.pt",))], [Input("STUDENT", "folder/file")])


def _made(name: str) -> str:
    Path(name).parent.mkdir()
    return name


def test_a_file_in_a_folder_that_is_read_stays() -> None:
    with pytest.raises(TsdistillError, match=r"--json.*folder.*--data"):
        check_outputs([Output("--json", "soft")], [Input("--data", "folder")])
    with pytest.raises(TsdistillError, match=r"alias.*--data"):
        check_outputs([Output("--json", "folder/file")], [Input("--data", "fashion-mnist:alias")])
    check_outputs([Output("--json", "folder/new")], [Input("--data", "folder")])


def test_stdout_is_one_output(tmp_path: Path) -> None:
    check_outputs([Output("--json", "-")])
    with pytest.raises(TsdistillError, match=r"--json.*--save-plan"):
        check_outputs([Output("--json", "-"), Output("--save-plan", "-")])


def test_devices_and_pipes_may_be_written_to() -> None:
    os.mkfifo("pipe")
    check_outputs([Output("--json", "pipe"), Output("--plot", os.devnull), Output("-o", os.devnull)])
    with pytest.raises(TsdistillError, match=r"--json.*--plot"):
        check_outputs([Output("--json", "pipe"), Output("--plot", "pipe")])
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_places_that_cannot_be_written() -> None:
    Path("nowhere").symlink_to("missing/target")
    for name, words in (
        ("folder", "is a folder; name a file"),
        ("missing/file", "missing does not exist; create it first"),
        ("nowhere", "does not exist; create it first"),
        ("n" * 300, "too long"),
    ):
        with pytest.raises(TsdistillError, match=words):
            check_place(name)
    for name, words in (
        ("hard", "is a file; name a folder"),
        ("missing/new", "does not exist; create it first"),
        ("nowhere", "symlink to nothing"),
    ):
        with pytest.raises(TsdistillError, match=words):
            check_folder(name)
    for name in ("folder", "alias", "new"):
        check_folder(name)
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("hf:folder,torch_dtype=float16", "folder"),
        ("mnist:folder", "folder"),
        ("hard:function", "hard"),
        ("folder", "folder"),
        ("input=hard", "hard"),
        ("timm:folder", None),
        ("absent", None),
        (3, None),
        (None, None),
    ],
)
def test_paths_in_a_value(value: object, named: str | None) -> None:
    assert [str(path) for path in paths_in(value)] == ([named] if named else [])
