"""pretrained.py: folders that transformers reads, of cut models too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tsdistill as tsd
from tests.models.hf_families import made
from tsdistill.errors import TsdistillError
from tsdistill.models.sources import catalog

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore")


def cut_model(removed: slice, only: str = "") -> torch.nn.Module:
    model = made("llama")
    x = tsd.example_input(model)
    graph = tsd.trace(model, x)
    gone = {g.name: range(g.size)[removed] for g in graph.groups if only in g.name}
    return tsd.cut(model, graph, gone, x).model


def test_a_cut_model_goes_to_a_folder_that_from_pretrained_reads(tmp_path: Path) -> None:
    small = cut_model(slice(None, None, 2))
    done = tsd.export(small, tmp_path / "small")
    assert done.format == "transformers' folder"
    assert done.path == tmp_path / "small"
    assert done.bytes == sum(file.stat().st_size for file in (tmp_path / "small").iterdir())
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    assert {name: p.shape for name, p in again.named_parameters()} == {
        name: p.shape for name, p in small.named_parameters()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_widths_that_no_configuration_says_leave_nothing_behind(tmp_path: Path) -> None:
    small = cut_model(slice(None, 10), only="layers.0.mlp")
    with pytest.raises(TsdistillError, match="LlamaForCausalLM"):
        tsd.export(small, tmp_path / "small")
    assert not list(tmp_path.iterdir())


def test_only_models_of_transformers_and_new_folders(tmp_path: Path) -> None:
    model = catalog.build_empty("timm:test_resnet").model
    with pytest.raises(TsdistillError, match=r"transformers.*\.onnx"):
        tsd.export(model.to_empty(device="cpu").apply(_zero), tmp_path / "small")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(TsdistillError, match="is not empty; name another"):
        tsd.export(cut_model(slice(0)), tmp_path / "full")
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"


def _zero(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            tensor.zero_()
