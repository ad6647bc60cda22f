import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

import tsdistill as tsd
from tests.exporting.networks import EFFICIENTNET, RESNET, VIT, Pairs, halved, vectors, words
from tsdistill.errors import TsdistillError
from tsdistill.exporting.torch_export import TorchExport

ELSEWHERE = """
import sys, torch
sys.modules["tsdistill"] = None
x, expected = torch.load("x.pt")
torch.set_num_threads(1)
for model in (torch.export.load("out.pt2").module(), torch.jit.load("out.ts")):
    print((model(x) - expected).abs().max().item() <= 1e-6 * expected.abs().max().item())
"""


def test_programs_run_without_tsdistill_on_batches_of_any_size(tmp_path):
    model = halved(VIT)
    for name, form in (("out.pt2", "torch.export"), ("out.ts", "TorchScript")):
        done = tsd.export(model, tmp_path / name)
        assert (done.path, done.format, done.dynamic_batch) == (tmp_path / name, form, True)
        assert done.check.batches == (1, 3, 2)
        assert done.check.difference <= 1e-6 < 0.1 < done.check.largest
        assert done.to_dict()["bytes"] == os.path.getsize(tmp_path / name)
    x = torch.randn(5, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    torch.save((x, model(x).detach()), tmp_path / "x.pt")
    command = [sys.executable, "-W", "ignore", "-c", ELSEWHERE]
    elsewhere = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert elsewhere.stdout.split() == ["True", "True"], elsewhere.stderr


@pytest.mark.parametrize("spec", [RESNET, EFFICIENTNET])
def test_pruned_convolutions_as_programs(tmp_path, spec):
    done = tsd.export(halved(spec), tmp_path / "out.pt2")
    assert done.check.difference <= 1e-5 * done.check.largest
    assert done.needs == ("torch",)


@pytest.mark.parametrize("suffix", [".pt2", ".ts"])
def test_inputs_and_outputs_by_name(tmp_path, suffix):
    model, example = words()
    done = tsd.export(model, tmp_path / f"out{suffix}", example_input=example)
    assert done.dynamic_batch
    assert done.check.difference == 0


def test_a_fixed_batch(tmp_path):
    done = tsd.export(Pairs(), tmp_path / "a.pt2", example_input=torch.randn(2, 8), dynamic_batch=False)
    assert (done.dynamic_batch, done.check.batches) == (False, (2,))
    for name in ("b.pt2", "b.ts"):
        with pytest.raises(TsdistillError, match="dynamic_batch=False"):
            tsd.export(Pairs(), tmp_path / name, example_input=torch.randn(2, 8))
    assert os.listdir(tmp_path) == ["a.pt2"]


def test_the_model_is_left_as_it_was(tmp_path):
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout()).train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = [id(p) for p in model.parameters()]
    done = tsd.export(model, tmp_path / "out.ts", example_input=torch.randn(4, 8))
    assert done.check.difference == 0
    assert [module.training for module in model] == [True, False, True]
    assert [id(p) for p in model.parameters()] == parameters
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_a_mismatch_is_an_error_and_leaves_what_was_there(tmp_path, monkeypatch):
    out = tmp_path / "out.pt2"
    out.write_text("before")
    write = TorchExport.write

    def scaled(self, job):
        written = write(self, job)
        run = written.run
        assert run is not None
        return replace(written, run=lambda x: run(x) * 1.001)

    monkeypatch.setattr(TorchExport, "write", scaled)
    with pytest.raises(TsdistillError, match=r"differs from the module in torch .* by \d"):
        tsd.export(vectors(), out, example_input=torch.randn(1, 8))
    assert os.listdir(tmp_path) == ["out.pt2"]
    assert out.read_text() == "before"


def test_a_forward_that_goes_by_values(tmp_path):
    class Either(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(TsdistillError, match="goes by the values of its inputs"):
        tsd.export(Either(), tmp_path / "out.pt2", example_input=torch.randn(1, 8))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("out.bin", {}, "one of .onnx"),
        ("missing/out.ts", {}, "create it first"),
        ("out.ts", {"opset": 20}, "goes with .onnx"),
        ("two-words.py", {}, "name it like a variable"),
        ("folder.ts", {}, "is a folder"),
    ],
)
def test_what_cannot_be_written_is_refused_first(tmp_path, name, options, said):
    (tmp_path / "folder.ts").mkdir()
    with pytest.raises(TsdistillError, match=said):
        tsd.export(vectors(), tmp_path / name, example_input=torch.randn(1, 8), **options)


def test_weights_that_are_not_finite(tmp_path):
    model = vectors()
    model[0].weight.data[0, 0] = torch.nan
    with pytest.raises(TsdistillError, match="NaN"):
        tsd.export(model, tmp_path / "out.ts", example_input=torch.randn(1, 8))
