"""Exporters of plugins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import tsdistill as tsd
from tests.exporting.networks import vectors
from tsdistill import plugins
from tsdistill.errors import TsdistillError
from tsdistill.plugin_api import Exporter, ExportJob, WrittenModel

X = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))


class Folder(Exporter):
    """Weights in a folder."""

    format = "Weights"
    is_folder = True

    def __init__(self, result: Any) -> None:
        self.result = result

    def write(self, job: ExportJob) -> WrittenModel:
        torch.save(job.model.state_dict(), job.files[0] / "weights.pt")
        made: WrittenModel = self.result(job.model)
        return made


def _register(monkeypatch: pytest.MonkeyPatch, exporter: Any) -> None:
    items = {**plugins.items("exporter"), "weights": exporter}
    monkeypatch.setattr(plugins, "items", lambda kind: items)


def test_a_folder_of_a_plugin_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, Folder(lambda model: WrittenModel(model, "weights 1", ("weights",))))
    done = tsd.export(vectors(), tmp_path / "out.weights", example_input=X)
    assert (done.format, done.needs, done.check.difference) == ("Weights", ("weights",), 0)
    assert os.listdir(tmp_path / "out.weights") == ["weights.pt"]
    with pytest.raises(TsdistillError, match="not empty"):
        tsd.export(vectors(), tmp_path / "out.weights", example_input=X)


def test_what_cannot_be_run_here_is_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, Folder(lambda model: WrittenModel(None)))
    done = tsd.export(vectors(), tmp_path / "out.weights", example_input=X)
    assert (done.check, done.to_dict()["check"], done.bytes > 0) == (None, None, True)


def _fails(model: torch.nn.Module) -> WrittenModel:
    raise ValueError("no layer of this kind")


@pytest.mark.parametrize(
    ("exporter", "fact"),
    [
        (Folder(_fails), "Weights .* no layer of this kind"),
        (Folder(lambda model: model), "Weights .*Sequential"),
        (Folder(lambda model: WrittenModel(lambda x: model(x) * 1.01)), "differs"),
    ],
)
def test_a_fault_of_a_plugin_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exporter: Any, fact: str
) -> None:
    _register(monkeypatch, exporter)
    with pytest.raises(TsdistillError, match=fact):
        tsd.export(vectors(), tmp_path / "out.weights", example_input=X)
    assert os.listdir(tmp_path) == []
