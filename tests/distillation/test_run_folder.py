"""A run's folder: what a run takes for its own, and what it leaves alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import tsdistill as tsd
from tests.distillation.small import ARCH, digits, student
from tsdistill.distillation.run_folder import FILES, RunFolder, files_of

IDENTITY = {"tsdistill": "1", "options": {"cache_teacher": True}}
MINE = (".mine.tmp", ".check.safetensors", ".tsdistill-notes.tmp", "teacher.npy")


def begin(folder: Path, resume: bool, identity: dict[str, Any]) -> None:
    RunFolder(folder).begin(identity, resume)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_no_run_made_is_not_replaced(tmp_path: Path, name: str, resume: bool) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / name).write_text("{}")
    with pytest.raises(tsd.TsdistillError, match=name):
        begin(tmp_path, resume, IDENTITY)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {name}
    assert (tmp_path / name).read_text() == "{}"


def test_a_run_goes_on_with_its_own_files(tmp_path: Path) -> None:
    begin(tmp_path, False, IDENTITY)
    for name in files_of(IDENTITY):
        if name != "options.json" and "checkpoints" not in name:
            (tmp_path / name).write_text("its own")
    begin(tmp_path, True, IDENTITY)
    begin(tmp_path, True, {**IDENTITY, "options": {"cache_teacher": False}})
    with pytest.raises(tsd.TsdistillError, match=r"teacher\.npy"):
        begin(tmp_path, True, IDENTITY)


def test_a_run_leaves_the_user_s_files_alone(tmp_path: Path) -> None:
    for name in MINE:
        (tmp_path / name).write_text("mine")
    short: dict[str, Any] = {"epochs": 1, "samples": 64, "batch_size": 32}
    for resume in (False, True):
        tsd.train(student(), data=digits(), out=tmp_path, arch=ARCH, resume=resume, options=short)
    assert all((tmp_path / name).read_text() == "mine" for name in MINE)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*MINE, "model.safetensors", "options.json", "log.jsonl", "checkpoints"}
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask


def test_figures_that_are_not_finite_are_none_in_json(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_log([{"epoch": 0, "val/output_mse": float("inf")}, {"epoch": 1, "loss": float("nan")}])
    lines = [json.loads(line, parse_constant=pytest.fail) for line in run.log.read_text().splitlines()]
    assert lines == [{"epoch": 0, "val/output_mse": None}, {"epoch": 1, "loss": None}]
