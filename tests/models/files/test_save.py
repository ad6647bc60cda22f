import json
import os
import subprocess
import sys
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from safetensors import safe_open
from torch import nn

import tsdistill as tsd
from tsdistill import models
from tsdistill.errors import TsdistillError
from tsdistill.models import Attribute, InputSpec, ModelInfo, attach, example_input, save

load: Any = models.load
info_of: Any = models.info_of

TIED = """
from torch import nn

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.scale = 2
        self.sizes = [4, 4]
        self.power = 1.5
        self.register_buffer("table", nn.init.ones_(self.embed.weight.detach().clone()), persistent=False)

    def forward(self, x):
        return self.head(self.embed(x) * self.scale).abs() ** self.power

def build():
    return Tied()
"""

FRESH = """
import sys, torch
from tsdistill.models import load
model = load(sys.argv[1])
torch.set_num_threads(1)
print(torch.equal(model(torch.load(sys.argv[2])), torch.load(sys.argv[3])))
"""


def randomised(spec, seed=0):
    """A model in which no parameter or statistic has the value that a fresh build gives it."""
    model = load(spec)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.add_(torch.rand(buffer.shape, generator=generator))
    return model


def narrowed():
    """A ResNet of timm whose first block has lost half of its inner nodes, by hand."""
    model = randomised("timm:test_resnet,pretrained=false")
    block = model.layer1[0]
    kept = block.conv1.out_channels // 2
    with torch.no_grad():
        block.conv1.weight = nn.Parameter(block.conv1.weight[:kept].clone())
        for name in ("weight", "bias"):
            setattr(block.bn1, name, nn.Parameter(getattr(block.bn1, name)[:kept].clone()))
        for name in ("running_mean", "running_var"):
            setattr(block.bn1, name, getattr(block.bn1, name)[:kept].clone())
        block.conv2.weight = nn.Parameter(block.conv2.weight[:, :kept].clone())
    return model


@pytest.fixture
def tied_code(tmp_path):
    (tmp_path / "net.py").write_text(TIED)
    return f"{tmp_path / 'net.py'}:build"


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_cut_model_is_the_same_bit_for_bit_in_a_fresh_process(tmp_path, suffix):
    torch.set_num_threads(1)
    model = narrowed()
    x = example_input(model)
    file = tmp_path / f"out{suffix}"
    save(model, file)
    torch.save(x, tmp_path / "x.pt")
    torch.save(model(x).detach(), tmp_path / "y.pt")
    arguments = [str(file), str(tmp_path / "x.pt"), str(tmp_path / "y.pt")]
    done = subprocess.run([sys.executable, "-c", FRESH, *arguments], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr
    assert sorted(os.listdir(tmp_path)) == sorted([file.name, "x.pt", "y.pt"])


def test_widths_and_input_come_back(tmp_path):
    model = narrowed()
    save(model, tmp_path / "out.safetensors")
    again = load(tmp_path / "out.safetensors")
    assert again.layer1[0].conv1.out_channels == model.layer1[0].conv1.weight.shape[0]
    assert again.layer1[0].bn1.num_features == model.layer1[0].conv1.weight.shape[0]
    assert info_of(again).arch == "timm:test_resnet"
    assert info_of(again).input.size == (3, 160, 160)
    assert info_of(again).input.source == "stored in the file"


def test_groups_of_convolutions_come_back(tmp_path):
    model = load("timm:test_convnext,pretrained=false")
    conv = model.stages[0].blocks[0].conv_dw
    conv.weight = nn.Parameter(conv.weight.detach()[:8].clone())
    conv.bias = nn.Parameter(conv.bias.detach()[:8].clone())
    conv.groups = conv.in_channels = conv.out_channels = 8
    save(model, tmp_path / "out.pt")
    again = load(tmp_path / "out.pt")
    assert info_of(again).attributes == (Attribute("stages.0.blocks.0.conv_dw", "groups", 8),)
    assert repr(again.stages[0].blocks[0].conv_dw) == repr(conv)


def test_saved_twice_is_the_same(tmp_path):
    save(narrowed(), tmp_path / "a.safetensors")
    save(load(tmp_path / "a.safetensors"), tmp_path / "b.pt")
    one, other = load(tmp_path / "a.safetensors"), load(tmp_path / "b.pt")
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_own_code_shared_parameters_and_changed_constants(tmp_path, tied_code, suffix):
    model = load(tied_code)
    model.scale, model.sizes = 3, [4, 2]
    model.table = torch.zeros(2, 4)
    file = tmp_path / f"out{suffix}"
    save(model, file)
    assert set(info_of(model).attributes) == set()
    with pytest.raises(TsdistillError, match="arch"):
        load(file)
    for again in (load(file, arch=tied_code), load(file, trust=True)):
        assert again.head.weight is again.embed.weight
        assert again.scale == 3
        assert again.sizes == [4, 2]
        assert torch.equal(again.table, model.table)
        x = torch.arange(5)
        assert torch.equal(again(x), model(x))


DETECTOR = """
import torch
from torch import nn

class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.shapes = nn.Conv2d(3, 6, 3, stride=2), []
        self.head = nn.Conv2d(6, 2, 1)
        self.stride = 16 / float(self(torch.ones(1, 3, 16, 16)).shape[-1])
        self.shapes, self.scale = [], float(self.body.weight.detach().abs().max().item() > 0)

    def forward(self, x):
        x = self.head(self.body(x).relu())
        self.shapes = [[*x.shape[2:]]]
        return x

def build():
    return Detector()
"""


def test_own_code_that_runs_while_it_is_built_and_keeps_what_it_saw(tmp_path):
    (tmp_path / "detector.py").write_text(DETECTOR)
    code, file, x = (
        f"{tmp_path / 'detector.py'}:build",
        tmp_path / "out.safetensors",
        torch.rand(1, 3, 32, 32),
    )
    model = load(code)
    small = tsd.cut(model, tsd.trace(model, x), {"body": [0, 1]}, x).model
    wanted = small(x)
    assert small.shapes == [[15, 15]]
    save(small, file, arch=code)
    for again in (load(file, arch=code), load(file, trust=True)):
        assert torch.equal(again(x), wanted)


def test_layout_in_memory_comes_back(tmp_path):
    model = randomised("timm:test_resnet,pretrained=false").to(memory_format=torch.channels_last)
    model.fc.weight = nn.Parameter(model.fc.weight.detach().t().contiguous().t())
    x = example_input(model)
    for suffix in (".pt", ".safetensors"):
        save(model, tmp_path / f"out{suffix}")
        again = load(tmp_path / f"out{suffix}")
        assert again.fc.weight.stride() == model.fc.weight.stride()
        assert again.conv1[0].weight.stride() == model.conv1[0].weight.stride()
        assert torch.equal(again(x), model(x))


def test_parameters_that_are_views_of_one_tensor(tmp_path):
    model = load("timm:test_vit,pretrained=false")
    whole = torch.randn(2, *model.blocks[0].norm1.weight.shape)
    model.blocks[0].norm1.weight = nn.Parameter(whole[0])
    model.blocks[0].norm1.bias = nn.Parameter(whole[1])
    save(model, tmp_path / "out.safetensors")
    assert torch.equal(load(tmp_path / "out.safetensors").blocks[0].norm1.bias, whole[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_type_is_kept(tmp_path, dtype):
    model = load("timm:test_vit,pretrained=false").to(dtype)
    save(model, tmp_path / "out.safetensors")
    assert {p.dtype for p in load(tmp_path / "out.safetensors").parameters()} == {dtype}


def test_model_made_elsewhere_with_another_head(tmp_path):
    model = timm.create_model("test_resnet", drop_rate=0.3).eval()
    model.reset_classifier(3)
    save(model, tmp_path / "out.pt")
    again = load(tmp_path / "out.pt")
    assert again.num_classes == 3
    assert torch.equal(again(example_input(model)), model(example_input(model)))


def test_torch_alone_reads_the_weights(tmp_path):
    model = narrowed()
    save(model, tmp_path / "out.pt")
    save(model, tmp_path / "out.safetensors")
    stored = torch.load(tmp_path / "out.pt", weights_only=True)["state_dict"]
    assert stored.keys() == safetensors.torch.load_file(tmp_path / "out.safetensors").keys()
    assert stored.keys() == model.state_dict().keys()


def test_unknown_architecture_asks_for_one(tmp_path):
    with pytest.raises(TsdistillError, match=r"Sequential .*arch="):
        save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "out.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m, "layer1", nn.Identity()), "these are not the tensors of timm:test_resnet"),
        (lambda m: setattr(m.layer1[0], "act1", nn.GELU()), "layer1.0.act1 is GELU, there it is ReLU"),
        (lambda m: setattr(m.bn1, "eps", 0.5), "bn1.eps is 0.5, there it is 1e-05"),
        (lambda m: m.fc.weight.data.fill_(float("nan")), "fc.weight holds NaN"),
    ],
    ids=["structure", "activation", "constant", "nan"],
)
def test_what_would_not_load_again_is_not_written(tmp_path, change, message):
    model = load("timm:test_resnet,pretrained=false")
    change(model)
    with pytest.raises(TsdistillError, match=message):
        save(model, tmp_path / "out.safetensors")
    assert os.listdir(tmp_path) == []


def test_wrong_arch_is_refused_when_loading(tmp_path):
    save(narrowed(), tmp_path / "out.safetensors")
    with pytest.raises(TsdistillError, match="timm:test_vit"):
        load(tmp_path / "out.safetensors", arch="timm:test_vit")


@pytest.mark.parametrize(
    ("name", "message"),
    [("out.onnx", "ends in"), ("missing/out.pt", "does not exist"), ("folder.pt", "is a folder")],
)
def test_unwritable_output(tmp_path, name, message):
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(TsdistillError, match=message):
        save(narrowed(), tmp_path / name)


def test_failed_write_leaves_nothing_and_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "out.safetensors"
    file.write_text("old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(TsdistillError, match="No space left"):
        save(narrowed(), file)
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.safetensors"]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    file = tmp_path_factory.mktemp("good") / "good.safetensors"
    model = load("timm:test_resnet,pretrained=false")
    attach(
        model, ModelInfo(info_of(model).arch, InputSpec((3, 160, 160)), (Attribute("", "num_classes", 1000),))
    )
    save(model, file)
    with safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()["tsdistill"])
    return safetensors.torch.load_file(file), header


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", 3, "is of format '3'"),
        ("version", None, "is of format 'None'"),
        ("arch", 3, "no valid 'arch'"),
        ("arch", "timm:no_such_model", "cannot be built"),
        ("arch", "timm:hf-hub:someone/something", "name the architecture"),
        ("arch", "timm:test_resnet,checkpoint_path=x", "cannot be given"),
        ("arch", "timm:test_resnet,num_classes=99999999999", "asks for num_classes"),
        ("arch", "timm:test_resnet,num_classes=1048576,width=9", "cannot be built"),
        ("arch", "timm:vit_giant_patch14_224", "parameters, the file"),
        ("arch", "os:system", "outside the catalogs"),
        ("arch", "bad.py:build", "outside the catalogs"),
        ("attributes", [["", "num_classes", "3"]], r"no valid 'attributes\.0\.2"),
        ("attributes", [["", "num_classes", True]], r"no valid 'attributes\.0\.2"),
        ("attributes", [["", "num_classes", 2**40]], r"no valid 'attributes\.0\.2"),
        ("attributes", [["", "num_classes", [1]]], "num_classes is not a shape constant of that kind"),
        ("attributes", [["", "no_such", 1]], "no_such is not a shape constant"),
        ("attributes", [["", "training", 1]], "training is not a shape constant"),
        ("attributes", [["", "forward", 1]], "forward is not a shape constant"),
        ("attributes", [["nowhere", "num_classes", 1]], "there is no module 'nowhere'"),
        ("attributes", {"a": 1}, "no valid 'attributes'"),
        ("buffers", [1], r"no valid 'buffers\.0'"),
        ("buffers", None, "no valid 'buffers'"),
        ("tied", {"fc.weight": "nothing"}, "cannot be shared"),
        ("orders", {"fc.weight": [0, 0]}, "the order"),
        ("input", {"size": [-1]}, r"no valid 'input\.size"),
        ("input", {"size": [3, 8, 8], "mean": "x"}, r"no valid 'input\.mean'"),
        ("input", [3], "no valid 'input'"),
    ],
)
def test_damaged_metadata_is_one_line(tmp_path, good, field, value, message):
    tensors, header = good
    raw = json.dumps({**header, field: value})
    safetensors.torch.save_file(tensors, tmp_path / "bad.safetensors", metadata={"tsdistill": raw})
    with pytest.raises(TsdistillError, match=message) as caught:
        load(tmp_path / "bad.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("raw", ["", "{", "[]", "[" * 100_000])
def test_metadata_that_is_not_json(tmp_path, good, raw):
    safetensors.torch.save_file(good[0], tmp_path / "bad.safetensors", metadata={"tsdistill": raw})
    with pytest.raises(TsdistillError, match="damaged metadata"):
        load(tmp_path / "bad.safetensors")


def test_tensors_that_are_missing(tmp_path, good):
    tensors = {name: tensor for name, tensor in good[0].items() if name != "fc.bias"}
    raw = json.dumps(good[1])
    safetensors.torch.save_file(tensors, tmp_path / "bad.safetensors", metadata={"tsdistill": raw})
    with pytest.raises(TsdistillError, match=r"fc\.bias"):
        load(tmp_path / "bad.safetensors")


def test_a_file_alone_imports_nothing(tmp_path, good):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef build(): pass\n")
    raw = json.dumps({**good[1], "arch": f"{tmp_path / 'evil.py'}:build"})
    safetensors.torch.save_file(good[0], tmp_path / "bad.safetensors", metadata={"tsdistill": raw})
    with pytest.raises(TsdistillError, match="outside the catalogs"):
        load(tmp_path / "bad.safetensors")
    assert not (tmp_path / "ran").exists()


MEMBRANE = """
import torch
from torch import nn

class Spiking(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 12), nn.Linear(12, 3)
        self.register_buffer("membrane", torch.zeros(0), persistent=False)

    def forward(self, x):
        if self.membrane.shape != (len(x), len(self.one.weight)):
            self.membrane = x.new_zeros(len(x), len(self.one.weight))
        self.membrane = 0.9 * self.membrane + self.one(x)
        return self.two(self.membrane.tanh())

def build():
    return Spiking()
"""


@pytest.mark.parametrize("used", ["before", "after", "never"])
def test_what_a_forward_leaves_in_an_empty_buffer_is_not_stored(tmp_path, used):
    (tmp_path / "spiking.py").write_text(MEMBRANE)
    arch = f"{tmp_path}/spiking.py:build"
    model, x = load(arch, trust=True).eval(), torch.randn(2, 6)
    fresh = tsd.cut(model, tsd.trace(model, x[:1]), {"one": [0, 5]}, x[:1]).model
    expected = fresh(x)
    with torch.no_grad():
        if used == "before":
            model(x)
        small = tsd.cut(model, tsd.trace(model, x[:1]), {"one": [0, 5]}, x[:1]).model
        if used == "after":
            small(x)
    save(small, tmp_path / "small.safetensors", arch=arch)
    loaded = load(tmp_path / "small.safetensors", arch=arch)
    assert torch.equal(loaded(x), expected)
