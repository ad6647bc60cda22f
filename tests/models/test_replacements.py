"""Models without some branches are stored, loaded and exported like any other."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

import tsdistill as tsd
from tests.networks import randomise
from tsdistill.models.constant_modules import Constant, PassThrough

SPECS = ("timm:test_resnet", "timm:test_vit", "timm:mobilenetv3_small_050")

OWN = """
from tests.tracing.branch_networks import BLOCKS, Maps, Tokens

def basic():
    return Maps(BLOCKS["basic"])

def pre_norm():
    return Tokens(BLOCKS["pre-norm"])
"""


def without(spec, *, values=True):
    """A model without its second and third branch, which give random constants, and an input."""
    model = randomise(tsd.load(f"{spec},pretrained=false" if spec.startswith("timm") else spec))
    side = 96 if spec == SPECS[2] else 160
    example = torch.randn(1, 3, side, side)
    if not spec.startswith("timm"):
        example = torch.randn(1, 3, 9, 9) if spec.endswith("basic") else torch.randn(1, 6, 5)
    branches = tsd.trace_branches(model, example)[1:3]
    graph = {name: model.get_submodule(name) for b in branches for name in b.last}
    generator = torch.Generator().manual_seed(0)
    channels = {
        name: branch.shape[-1 if len(branch.shape) == 3 else 1] for branch in branches for name in branch.last
    }
    constants = {name: torch.randn(channels[name], generator=generator) for name in graph} if values else None
    done = tsd.remove_branches(model, [branch.name for branch in branches], example, values=constants)
    assert len(done.removed) == 2
    return done.model, example


def same(one, other):
    assert str(one) == str(other)
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(t, other.state_dict()[name]) for name, t in one.state_dict().items())


@pytest.mark.parametrize("values", [True, False], ids=["values", "zeros"])
@pytest.mark.parametrize("spec", SPECS)
def test_a_stored_model_comes_back_bit_for_bit(tmp_path, spec, values):
    suffix = ".safetensors" if values else ".pt"
    model, example = without(spec, values=values)
    assert any(isinstance(module, Constant | PassThrough) for module in model.modules())
    tsd.save(model, tmp_path / f"a{suffix}")
    again = tsd.load(tmp_path / f"a{suffix}")
    same(model, again)
    assert torch.equal(model(example), again(example))


@pytest.mark.parametrize("factory", ["basic", "pre_norm"])
def test_a_model_of_own_code(tmp_path, factory):
    (tmp_path / "own.py").write_text(OWN)
    model, example = without(f"{tmp_path}/own.py:{factory}")
    tsd.save(model, tmp_path / "a.safetensors")
    again = tsd.load(tmp_path / "a.safetensors", arch=f"{tmp_path}/own.py:{factory}")
    same(model, again)
    assert torch.equal(model(example), again(example))


def test_nodes_and_branches_are_cut_and_stored_together(tmp_path):
    model, example = without(SPECS[1])
    graph = tsd.trace(model, example)
    small = tsd.cut(model, graph, {group.name: [0, 2] for group in graph.groups if group.size > 4}, example)
    assert not small.put_back
    tsd.save(small.model, tmp_path / "a.safetensors")
    assert torch.equal(tsd.load(tmp_path / "a.safetensors")(example), small.model(example))


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".ts"])
@pytest.mark.parametrize("spec", SPECS[:2])
def test_exported_programs_compute_the_same_at_any_batch(tmp_path, spec, suffix):
    model, _ = without(spec)
    done = tsd.export(model, tmp_path / f"a{suffix}")
    assert done.dynamic_batch
    assert done.check.difference <= 1e-5 * done.check.largest


ELSEWHERE = """
import sys, torch
sys.path.insert(0, ".")
sys.modules["tsdistill"] = None
import small
x, expected = torch.load("inputs.pt")
torch.set_num_threads(1)
print(torch.equal(small.build()(x), expected))
"""


@pytest.mark.parametrize("spec", SPECS[:2])
def test_python_source_builds_the_model_without_tsdistill(tmp_path, spec):
    torch.set_num_threads(1)
    model, example = without(spec)
    tsd.export(model, tmp_path / "small.py")
    torch.save((example, model(example).detach()), tmp_path / "inputs.pt")
    command = [sys.executable, "-W", "ignore", "-c", ELSEWHERE]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "True\n", done.stderr


def test_a_model_without_replaced_modules_is_written_as_before(tmp_path):
    tsd.save(tsd.load(f"{SPECS[0]},pretrained=false"), tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as opened:
        header = json.loads(opened.metadata()["tsdistill"])
    assert header["version"] == 1
    assert "replaced" not in header


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    file = tmp_path_factory.mktemp("good") / "good.safetensors"
    tsd.save(without(SPECS[0])[0], file)
    with safe_open(file, "pt") as opened:
        return safetensors.torch.load_file(file), json.loads(opened.metadata()["tsdistill"])


@pytest.mark.parametrize(
    ("field", "value", "cause"),
    [
        ("module", "nowhere", "nowhere"),
        ("module", 3, "module"),
        ("source", -1, "source"),
        ("form", "dict", "form"),
        ("sizes", [[[1, 2]]], "sizes"),
        ("sizes", [[[0, 1, 0, 0]]], "sizes"),
        ("rank", 10**6, "rank"),
        ("channels", 2**40, "channels"),
        ("channels", 0, "bias"),
        ("axis", "x", "axis"),
    ],
)
def test_damaged_metadata_is_one_line(tmp_path, good, field, value, cause):
    tensors, header = good
    assert header["version"] == 2
    place = next(n for n, each in enumerate(header["replaced"]) if each["channels"])
    replaced = [dict(each) for each in header["replaced"]]
    replaced[place][field] = value
    raw = json.dumps({**header, "replaced": replaced})
    safetensors.torch.save_file(tensors, tmp_path / "bad.safetensors", metadata={"tsdistill": raw})
    with pytest.raises(tsd.TsdistillError, match=cause) as caught:
        tsd.load(tmp_path / "bad.safetensors")
    assert "\n" not in str(caught.value)


def test_a_replaced_module_that_the_architecture_has_not_is_refused(tmp_path):
    model = tsd.load(f"{SPECS[0]},pretrained=false")
    model.extra = PassThrough(0)
    with pytest.raises(tsd.TsdistillError, match="extra"):
        tsd.save(model, tmp_path / "a.safetensors")
