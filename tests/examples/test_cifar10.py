"""The example says what the lab takes, and hands on what it gives."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tsdistill.lab import Claim, Outcome, Table

ROOT = Path(__file__).parents[2]


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "experiment", ROOT / "examples" / "cifar10" / "experiment.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_shows_and_writes_what_the_lab_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs = [{"output_mse": loss, "alignment/0": 1 - loss} for loss in (0.9, 0.2)]
    data = {"nodes": {"0": 6}, "runs": [{"width": width, "seed": 0, "epochs": epochs} for width in (1, 10)]}
    claims = (Claim("wider is better", "section 6", "0.8 at 10x", True),)
    made = Outcome("cifar10", {}, claims, (Table("Students", ("width",), (("10x",),)),), data, ("a note",))

    def run(name: str, *, keep: Path, tell: Any, settings: dict[str, Any]) -> Outcome:
        from tsdistill.lab import experiment

        assert name == "cifar10"
        assert keep == tmp_path / "cells"
        experiment(name).settings(**settings)
        tell("teacher", 1, 4)
        return made

    monkeypatch.setattr("tsdistill.lab.run", run)
    example().main(tmp_path)
    said = capsys.readouterr()
    for words in ("Students", "wider is better", "held", "a note", "loss.png"):
        assert words in said.out
    assert said.err == "teacher: 1 of 4\n"
    assert {file.name for file in tmp_path.iterdir()} >= {"outcome.json", "alignment.png", "loss.png"}
