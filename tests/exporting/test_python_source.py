import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

import tsdistill as tsd
from tests.exporting.networks import RELATIVE, VIT, halved, vectors
from tsdistill.errors import TsdistillError
from tsdistill.exporting import python_source
from tsdistill.models import InputSpec, ModelInfo, attach

MODELS = {
    "resnet": ("timm:resnet18", 64),
    "mobilenet": ("timm:mobilenetv3_small_050", 64),
    "efficientnet": ("timm:tf_efficientnet_b0", 64),
    "transformer": (VIT, None),
    "relative": (RELATIVE, None),
    "convnext": ("timm:test_convnext", None),
    "shuffle": ("torchvision:shufflenet_v2_x0_5", 64),
}

ELSEWHERE = """
import importlib, json, sys, torch
sys.path.insert(0, sys.argv[1])
sys.modules["tsdistill"] = None
torch.set_num_threads(1)
found = {}
for name in sys.argv[2:]:
    x, expected = torch.load(f"{sys.argv[1]}/{name}.inputs")
    model = importlib.import_module(name).build()
    with torch.no_grad():
        same = torch.equal(model(x), expected)
    mode = model.training
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), 1e-3)
    before = [p.detach().clone() for p in model.parameters()]
    nn = torch.nn.functional
    loss = nn.cross_entropy(model(torch.cat([x, x.flip(-1)])), torch.tensor([0, 1]))
    loss.backward()
    optimiser.step()
    moved = sum(not torch.equal(a, p) for a, p in zip(before, model.parameters()))
    found[name] = {
        "same": same, "training": mode, "loss": loss.item(), "moved": moved, "of": len(before),
        "is": str(model),
    }
print(json.dumps(found))
"""

NETWORK = """
import torch
from torch import nn


class Tied(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.embed = nn.Embedding(9, width)
        self.head = nn.Linear(width, 9, bias=False)
        self.head.weight = self.embed.weight
        self.sizes = [width, width]
        self.register_buffer("table", torch.arange(float(width)), persistent=False)

    def forward(self, ids, scale=None):
        first, _ = torch.cat([self.embed(ids), self.embed(ids)], -1).split(self.sizes, -1)
        return {"scores": self.head(first + self.table)}


def build():
    return Tied()
"""


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """All `MODELS` as source, with an input and the output of each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("source")
    for name, (spec, side) in MODELS.items():
        model = halved(spec, side)
        done = tsd.export(model, place / f"{name}.py")
        assert done.files == (place / f"{name}.py", place / f"{name}.safetensors")
        assert done.check.difference == 0
        x = tsd.example_input(model)
        with torch.no_grad():
            torch.save((x, model(x)), place / f"{name}.inputs")
    torch.set_num_threads(threads)
    return place


@pytest.fixture(scope="module")
def elsewhere(folder):
    """What a process that cannot import tsdistill makes of them."""
    done = run("/", "-I", "-c", ELSEWHERE, str(folder), *MODELS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_bit_for_bit_and_can_be_trained_without_tsdistill(elsewhere, name):
    found = elsewhere[name]
    assert found["same"]
    assert found["training"] is False
    assert 0 < found["loss"] < 100
    assert found["moved"] > 0.9 * found["of"]
    assert found["is"] == str(halved(*MODELS[name]))


def test_the_files_are_short_tidy_and_name_no_module_of_ours(folder):
    for name in MODELS:
        text = (folder / f"{name}.py").read_text()
        assert "import tsdistill" not in text
        assert "from tsdistill" not in text
        assert len(text.splitlines()) < 220
    rules = "E,F,W,I,UP,B,C4,SIM,RUF,D1"
    options = ["--isolated", "--line-length", "110", "--no-cache"]
    for command in (["check", "--select", rules], ["format", "--check"]):
        done = run(folder, "-m", "ruff", *command, *options, ".")
        assert done.returncode == 0, done.stdout


def test_loads_again_in_tsdistill(folder):
    model, again = halved(*MODELS["transformer"]), tsd.load(folder / "transformer.safetensors")
    x = tsd.example_input(model)
    assert torch.equal(again(x), model(x))


@pytest.fixture
def tied(tmp_path):
    """A pruned model of one's own code with shared weights, a buffer that is not saved, and split sizes."""
    code = tmp_path / "network.py"
    code.write_text(NETWORK)
    arch = f"{code}:build"
    model: Any = tsd.load(arch)
    kept = torch.tensor([0, 2, 5])
    model.embed.weight = model.head.weight = nn.Parameter(model.embed.weight.detach()[:, kept].clone())
    model.table = model.table[kept]
    model.sizes = [3, 3]
    attach(model, ModelInfo(arch=arch))
    return model


def test_the_user_s_own_code_beside_it(tmp_path, tied):
    example = {"ids": torch.tensor([[4, 8, 1]]), "scale": None}
    done = tsd.export(tied, tmp_path / "small.py", example_input=example)
    assert done.needs == ("torch", "safetensors", "network")
    assert done.check.difference == 0
    text = (tmp_path / "small.py").read_text()
    assert '"head.weight": "embed.weight"' in text
    assert "network.py, which must lie beside this one" in text
    assert "network" not in sys.modules
    out = run(tmp_path, "small.py")
    assert out.stdout.startswith("27 parameters, largest difference 0 of outputs up to"), out.stderr
    code = (
        "import small; m = small.build(); print(m.head.weight is m.embed.weight, m.table.tolist(), m.sizes)"
    )
    assert run(tmp_path, "-c", code).stdout.strip() == "True [0.0, 2.0, 5.0] [3, 3]"


ATTENDING = """
from torch import nn


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(6, 16), nn.LayerNorm(16), nn.Linear(16, 3)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        x = self.embed(x)
        y = self.norm(x)
        return self.head((x + self.attention(y, y, y, need_weights=False)[0]).mean(1))


def build():
    return Attending()
"""


def built_elsewhere(folder: Path, model: Any, x: torch.Tensor) -> dict[str, Any]:
    """What a process without tsdistill finds of the file that ``model`` is exported to."""
    tsd.export(model, folder / "small.py", example_input=x)
    torch.save((x, model(x)), folder / "small.inputs")
    given = run("/", "-I", "-c", ELSEWHERE.replace("torch.cat([x, x.flip(-1)])", "x"), str(folder), "small")
    assert given.returncode == 0, given.stderr
    return json.loads(given.stdout)["small"]


def test_attention_whose_widths_have_come_apart_comes_along(tmp_path):
    code = tmp_path / "attending.py"
    code.write_text(ATTENDING)
    model = tsd.load(f"{code}:build")
    x = torch.randn(2, 5, 6)
    graph = tsd.trace(model, x)
    heads = next(group.name for group in graph.groups if group.size == 4)
    done = tsd.cut(model, graph, {heads: [0, 2]}, x)
    small: Any = done.model.eval()
    assert small.attention.out_proj.weight.shape == (16, 8)
    attach(small, replace(tsd.info_of(model), attributes=done.attributes, buffers=done.buffers))
    found = built_elsewhere(tmp_path, small, x)
    assert found["same"]
    assert found["moved"] == found["of"]


PLACED = """
import torch
from torch import nn


class Placed(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(6, 16), nn.Linear(16, 3)
        self.places = torch.linspace(-1, 1, 80).reshape(5, 16)

    def forward(self, x):
        return self.head(torch.relu(self.embed(x) + self.places).mean(1))


def build():
    return Placed()
"""


def test_plain_tensors_that_were_cut_come_along(tmp_path):
    code = tmp_path / "placed.py"
    code.write_text(PLACED)
    model = tsd.load(f"{code}:build")
    x = torch.randn(2, 5, 6)
    small: Any = tsd.prune(model, data=torch.randn(64, 5, 6), macs=0.5)
    assert 0 < small.places.shape[1] < 16
    assert built_elsewhere(tmp_path, small, x)["same"]
    tsd.save(small, tmp_path / "again.safetensors")
    again = tsd.load(tmp_path / "again.safetensors", trust=True)
    assert torch.equal(again(x), small(x))


def test_it_notices_other_weights(tmp_path, tied):
    tsd.export(tied, tmp_path / "small.py", example_input={"ids": torch.tensor([[4, 8, 1]])})
    weights = tmp_path / "small.safetensors"
    tensors = safetensors.torch.load_file(weights)
    safetensors.torch.save_file({name: 1.01 * t for name, t in tensors.items()}, weights)
    done = run(tmp_path, "small.py")
    assert done.returncode == 1
    assert "it does not compute what it computed" in done.stderr
    safetensors.torch.save_file({**tensors, "extra": torch.ones(1)}, weights)
    assert "not the tensors of this model: ['extra']" in run(tmp_path, "small.py").stderr


def test_names_that_meet(tmp_path, tied):
    with pytest.raises(TsdistillError, match="name the file otherwise"):
        tsd.export(tied, tmp_path / "network.py", example_input={"ids": torch.tensor([[4]])})
    assert os.listdir(tmp_path) == ["network.py"]
    shutil.copy(tmp_path / "network.py", tmp_path / "my-network.py")
    attach(tied, ModelInfo(arch=f"{tmp_path / 'my-network.py'}:build"))
    with pytest.raises(TsdistillError, match="my-network"):
        tsd.export(tied, tmp_path / "small.py", example_input={"ids": torch.tensor([[4]])})
    assert sorted(os.listdir(tmp_path)) == ["my-network.py", "network.py"]


def test_a_model_that_nothing_builds(tmp_path):
    with pytest.raises(TsdistillError, match=r"out\.py: .*Sequential"):
        tsd.export(vectors(), tmp_path / "out.py", example_input=torch.randn(1, 8))
    assert os.listdir(tmp_path) == []


def test_layers_that_lie_channels_last(tmp_path):
    model = tsd.load("torchvision:squeezenet1_1,pretrained=false", inputs={"input_size": (3, 32, 32)})
    model = model.to(memory_format=torch.channels_last)
    attach(model, ModelInfo("torchvision:squeezenet1_1", InputSpec((3, 32, 32))))
    assert tsd.export(model, tmp_path / "out.py").check.difference == 0
    assert "ORDERS" in (tmp_path / "out.py").read_text()


def test_a_file_that_builds_another_model_is_not_left(tmp_path, monkeypatch):
    whole = python_source.text
    monkeypatch.setattr(python_source, "text", lambda *a: whole(*a).replace("tensors[prefix + leaf]", "old"))
    with pytest.raises(TsdistillError, match="gives other values"):
        tsd.export(halved(VIT), tmp_path / "out.py")
    assert os.listdir(tmp_path) == []
