import argparse
import os
import pathlib
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from tsdistill import models
from tsdistill.errors import TsdistillError
from tsdistill.models.files import checkpoint
from tsdistill.models.files.save import check_output

load: Any = models.load
info_of: Any = models.info_of

ARCH = "timm:test_resnet"


class Payload:
    """An object whose unpickling would leave a trace."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.fixture(scope="module")
def weights():
    return load(f"{ARCH},pretrained=false").state_dict()


def prefixed(weights, prefix):
    return {prefix + name: tensor for name, tensor in weights.items()}


WRAPPINGS = {
    "bare": lambda w: w,
    "state_dict": lambda w: {"state_dict": w, "epoch": 3},
    "timm": lambda w: {
        "state_dict": w,
        "arch": "x",
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("a")),
    },
    "model": lambda w: {"model": w, "optimizer": {"state": {}}},
    "model_state_dict": lambda w: {"model_state_dict": w},
    "ddp": lambda w: prefixed(w, "module."),
    "compiled": lambda w: {"state_dict": prefixed(w, "_orig_mod.")},
    "ddp of compiled": lambda w: prefixed(w, "module._orig_mod."),
    "averaged": lambda w: {"n_averaged": torch.tensor(3), **prefixed(w, "module.")},
    "lightning": lambda w: {
        "state_dict": {**prefixed(w, "model."), "loss.weight": torch.ones(3)},
        "pytorch-lightning_version": "2.4.0",
        "hyper_parameters": {"lr": 0.1},
    },
    "net": lambda w: {"state_dict": prefixed(w, "net.")},
    "ema": lambda w: {"state_dict": {n: t * 0 for n, t in w.items()}, "state_dict_ema": w},
    "counters left out": lambda w: {n: t for n, t in w.items() if not n.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_as_people_save_them(tmp_path, weights, wrap):
    torch.save(wrap(weights), tmp_path / "a.pth")
    model = load(tmp_path / "a.pth", arch=ARCH)
    assert all(torch.equal(t, weights[n]) for n, t in model.state_dict().items() if "num_batches" not in n)
    assert info_of(model).arch == ARCH


def test_notes_say_which_weights_were_taken(tmp_path, weights):
    torch.save(WRAPPINGS["ema"](weights), tmp_path / "a.pth")
    notes = info_of(load(tmp_path / "a.pth", arch=ARCH)).notes
    assert notes == ("the weights under 'state_dict_ema' (moving averages) were taken",)


def test_safetensors_and_the_old_format(tmp_path, weights):
    safetensors.torch.save_file(prefixed(weights, "module."), tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "old.pt"):
        assert torch.equal(load(tmp_path / name, arch=ARCH).fc.weight, weights["fc.weight"])


def test_half_precision_is_kept(tmp_path, weights):
    torch.save({n: t.half() if t.is_floating_point() else t for n, t in weights.items()}, tmp_path / "a.pt")
    assert load(tmp_path / "a.pt", arch=ARCH).fc.weight.dtype == torch.float16


def test_model_does_not_hold_on_to_the_file(tmp_path, weights):
    torch.save(weights, tmp_path / "a.pt")
    model = load(tmp_path / "a.pt", arch=ARCH)
    (tmp_path / "a.pt").write_bytes(b"\0" * (tmp_path / "a.pt").stat().st_size)
    assert torch.equal(model.fc.weight, weights["fc.weight"])


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_unpickled_unasked(tmp_path, weights, zipped):
    held = {"state_dict": weights, "x": Payload(tmp_path / "ran")}
    torch.save(held, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(TsdistillError, match="trust=True") as caught:
        load(tmp_path / "a.pt", arch=ARCH)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    load(tmp_path / "a.pt", arch=ARCH, trust=True)
    assert (tmp_path / "ran").exists()


def test_whole_module_needs_trust(tmp_path):
    torch.save(nn.Sequential(nn.Linear(3, 2)), tmp_path / "a.pt")
    with pytest.raises(TsdistillError, match=r"state_dict.*trust=True"):
        load(tmp_path / "a.pt")
    model = load(tmp_path / "a.pt", trust=True)
    assert isinstance(model, nn.Sequential)
    assert info_of(model).arch is None


def write(name, content):
    def make(folder):
        content_bytes = content() if callable(content) else content
        (folder / name).write_bytes(content_bytes)
        return folder / name

    return make


def torch_saved(value):
    def make(folder):
        torch.save(value, folder / "a.pt")
        return folder / "a.pt"

    return make


def script(folder):
    torch.jit.script(nn.Linear(2, 2)).save(folder / "a.pt")
    return folder / "a.pt"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.pt", "no such file"),
        (lambda folder: folder, "is not a file"),
        (write("a.onnx", b""), "files of weights end in"),
        (write("a.pt", b""), "truncated or not a file of torch.save"),
        (write("a.pt", b"hello" * 100), "truncated or not a file of torch.save"),
        (write("a.safetensors", b""), "truncated or not a safetensors file"),
        (write("a.safetensors", b"hello" * 100), "truncated or not a safetensors file"),
        (torch_saved([1, 2]), "holds a list, not weights"),
        (torch_saved({"epoch": 1}), "holds no weights .its keys: 'epoch'"),
        (torch_saved({}), "holds no weights"),
        (script, "TorchScript archive"),
    ],
)
def test_bad_files(tmp_path, make, message):
    path = make(tmp_path)
    with pytest.raises(TsdistillError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_truncated(tmp_path, weights, suffix, share):
    file = tmp_path / f"a{suffix}"
    if suffix == ".pt":
        torch.save(weights, file)
    else:
        safetensors.torch.save_file(weights, file)
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(TsdistillError, match="truncated"):
        load(file)


@pytest.mark.parametrize(
    ("name", "value"),
    [("fc.weight", float("nan")), ("bn1.bias", float("inf")), ("bn1.running_var", float("nan"))],
)
def test_not_finite(tmp_path, weights, name, value):
    broken = {n: t.clone() for n, t in weights.items()}
    broken[name].view(-1)[0] = value
    torch.save(broken, tmp_path / "a.pt")
    with pytest.raises(TsdistillError, match=f"{name} holds NaN or infinite"):
        load(tmp_path / "a.pt", arch=ARCH)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (
            "timm:test_resnet,num_classes=5",
            r"fc.weight is \[1000, \d+\] in the file and \[5, \d+\] in timm:test_",
        ),
        ("timm:test_vit", r"the file has no cls_token .*missing.*unexpected.*; give another arch"),
        ("timm:test_renset", "did you mean timm:test_resnet"),
        ("nowhere.py:build", "there is no file"),
        ("resnet18", "neither a file nor"),
    ],
)
def test_wrong_arch(tmp_path, weights, arch, message):
    torch.save(weights, tmp_path / "a.pt")
    with pytest.raises(TsdistillError, match=message) as caught:
        load(tmp_path / "a.pt", arch=arch)
    assert "\n" not in str(caught.value)


def test_arch_goes_with_files_only():
    with pytest.raises(TsdistillError, match="goes with a file only"):
        load("timm:test_resnet", arch="timm:test_resnet")


def test_variants_cut_prefixes_one_after_another():
    tensors = {"module.model.a": torch.ones(1), "module.model.b": torch.ones(1), "module.c": torch.ones(1)}
    assert [sorted(names) for names in checkpoint.variants(tensors)] == [
        ["module.c", "module.model.a", "module.model.b"],
        ["c", "model.a", "model.b"],
        ["a", "b"],
    ]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_name_that_pytorch_cannot_open_is_said_to_be_at_fault(tmp_path, weights, suffix):
    good = tmp_path / f"good{suffix}"
    odd = pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff" + suffix.encode()))
    if suffix == ".safetensors":
        safetensors.torch.save_file(weights, good)
    else:
        torch.save(weights, good)
    try:
        good.rename(odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(TsdistillError, match="UTF-8"):
        load(odd, arch=ARCH)
    with pytest.raises(TsdistillError, match="UTF-8"):
        check_output(odd)
