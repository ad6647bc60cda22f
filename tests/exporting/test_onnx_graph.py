import os

import pytest
import torch
from torch import nn

import tsdistill as tsd
from tests.exporting.networks import VIT, halved, vectors, words
from tsdistill.errors import TsdistillError
from tsdistill.exporting import onnx_graph

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

X = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))


def test_a_pruned_transformer_in_onnxruntime(tmp_path, capfd):
    model = halved(VIT)
    done = tsd.export(model, tmp_path / "out.onnx")
    assert capfd.readouterr() == ("", "")
    assert done.check.by == f"onnxruntime {onnxruntime.__version__}"
    assert done.check.batches == (1, 3, 2)
    assert done.check.difference <= 1e-5 * done.check.largest
    assert os.listdir(tmp_path) == ["out.onnx"]
    session = onnxruntime.InferenceSession(str(tmp_path / "out.onnx"), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert given.shape == ["batch", 3, 160, 160]
    x = torch.randn(5, 3, 160, 160)
    (y,) = session.run(None, {given.name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), model(x).detach(), rtol=1e-4, atol=1e-5)


def test_the_opset_and_a_fixed_batch(tmp_path):
    done = tsd.export(vectors(), tmp_path / "out.onnx", example_input=X, opset=21, dynamic_batch=False)
    stored = onnx.load(tmp_path / "out.onnx")
    assert {entry.domain: entry.version for entry in stored.opset_import}[""] == done.opset == 21
    assert [d.dim_value for d in stored.graph.input[0].type.tensor_type.shape.dim] == [1, 8]
    assert done.dynamic_batch is False


def test_inputs_by_name(tmp_path):
    model, example = words()
    done = tsd.export(model, tmp_path / "out.onnx", example_input=example)
    assert done.check.difference <= 1e-6
    stored = onnx.load(tmp_path / "out.onnx")
    assert sorted(given.name for given in stored.graph.input) == ["ids", "keep"]


@pytest.mark.parametrize("opset", [0, 11, 99])
def test_an_opset_that_cannot_be_written(tmp_path, opset):
    with pytest.raises(TsdistillError, match=f"opset {opset}: .* versions 18 to"):
        tsd.export(vectors(), tmp_path / "out.onnx", example_input=X, opset=opset)


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(TsdistillError, match=r"onnxruntime, .*'tsdistill\[export\]'"):
        tsd.export(vectors(), tmp_path / "out.onnx", example_input=X)


def test_a_model_beyond_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "MAX_BYTES", 100)
    with pytest.raises(TsdistillError, match="2 GB"):
        tsd.export(vectors(), tmp_path / "out.onnx", example_input=X)
    assert os.listdir(tmp_path) == []


def test_what_onnxruntime_cannot_run_is_not_written(tmp_path):
    model = nn.Linear(8, 3).bfloat16()
    with pytest.raises(TsdistillError, match="single precision"):
        tsd.export(model, tmp_path / "out.onnx", example_input=X.bfloat16())
    assert os.listdir(tmp_path) == []


def test_the_first_cause_is_named(tmp_path):
    class Either(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(TsdistillError, match="goes by the values of its inputs"):
        tsd.export(Either(), tmp_path / "out.onnx", example_input=X)
