"""Folders of the Hugging Face hub, exported programs, and files that are large for the memory."""

import json
import subprocess
import sys
from typing import Any

import pytest
import safetensors.torch
import timm
import torch

from tsdistill import models
from tsdistill.errors import TsdistillError

load: Any = models.load
info_of: Any = models.info_of

CONFIG = {
    "architecture": "test_vit",
    "num_classes": 5,
    "model_args": {"img_size": [96, 96]},
    "pretrained_cfg": {"input_size": [3, 96, 96], "mean": [0.4] * 3, "std": [0.2] * 3, "crop_pct": 0.9},
}


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=5, img_size=96).state_dict()


def shards(folder, tensors, name, save):
    names = list(tensors)
    parts = [names[::2], names[1::2]]
    places: dict[str, str] = {}
    for number, part in enumerate(parts, start=1):
        file = name.replace(".", f"-0000{number}-of-00002.")
        save({n: tensors[n] for n in part}, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


LAYOUTS = {
    "whole": lambda f, w: safetensors.torch.save_file(w, f / "model.safetensors"),
    "bin": lambda f, w: torch.save(w, f / "pytorch_model.bin"),
    "shards": lambda f, w: shards(f, w, "model.safetensors", safetensors.torch.save_file),
    "bin shards": lambda f, w: shards(f, w, "pytorch_model.bin", torch.save),
    "transformers' wrapper": lambda f, w: safetensors.torch.save_file(
        {f"timm_model.{n}": t for n, t in w.items()}, f / "model.safetensors"
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_folders_of_the_hub(tmp_path, weights, layout):
    layout(tmp_path, weights)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    model = load(tmp_path)
    assert all(torch.equal(t, weights[n]) for n, t in model.state_dict().items())
    assert info_of(model).arch == "timm:test_vit,img_size=96,num_classes=5"
    assert info_of(model).input.size == (3, 96, 96)
    assert info_of(model).input.mean == (0.4, 0.4, 0.4)


def test_folder_without_configuration_is_recognised(tmp_path, weights):
    LAYOUTS["whole"](tmp_path, weights)
    assert info_of(load(tmp_path)).arch == "timm:test_vit,img_size=96,num_classes=5"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bert", "architectures": ["BertModel"]}, "hf:.* weights cannot be read"),
        ({"architecture": "os.system('x')"}, "no name of timm's"),
        ({"architecture": "hf-hub:a/b"}, "no name of timm's"),
        ({"architecture": "test_vit", "model_args": {"a": {"b": 1}}}, "not one plain value"),
        ({"architecture": "test_vit", "model_args": {"checkpoint_path": "/x"}}, "cannot be given"),
        ({"architecture": "no_such"}, "cannot be built"),
        ([], "should be a mapping"),
    ],
)
def test_configurations_that_are_refused(tmp_path, weights, config, message):
    LAYOUTS["whole"](tmp_path, weights)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(TsdistillError, match=message):
        load(tmp_path)


def test_exported_program(tmp_path, weights):
    model = timm.create_model("test_vit", num_classes=5, img_size=96).eval()
    model.load_state_dict(weights)
    x = torch.randn(1, 3, 96, 96)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "a.pt2")
    again = load(tmp_path / "a.pt2")
    assert info_of(again).arch == "timm:test_vit,img_size=96,num_classes=5"
    assert torch.equal(again(x), model(x))


def test_exported_program_of_own_code_needs_trust(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2)).eval()
    x = torch.randn(2, 3)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "a.pt2")
    with pytest.raises(TsdistillError, match="fits no architecture"):
        load(tmp_path / "a.pt2")
    again = load(tmp_path / "a.pt2", trust=True)
    assert torch.equal(again(x), model(x))
    assert "not saved as a model" in info_of(again).notes[0]


def test_weights_of_several_types_become_the_widest(tmp_path, weights):
    mixed = {n: t.bfloat16() if t.dim() > 1 else t for n, t in weights.items()}
    torch.save(mixed, tmp_path / "a.pt")
    model = load(tmp_path / "a.pt")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.isfinite(model(torch.randn(1, 3, 96, 96))).all()


def test_whole_numbers_in_place_of_weights(tmp_path, weights):
    torch.save({**weights, "head.weight": weights["head.weight"].char()}, tmp_path / "a.pt")
    with pytest.raises(TsdistillError, match=r"head\.weight .*int8"):
        load(tmp_path / "a.pt")


class Callback:
    """Stands for what Lightning keeps beside the weights."""

    def __init__(self):
        self.best = 0.5


def test_objects_beside_the_weights_are_left_unread(tmp_path, weights):
    held = {
        "state_dict": {f"model._orig_mod.{n}": t for n, t in weights.items()},
        "callbacks": {"best": Callback()},
        "hyper_parameters": {"lr": 0.1},
    }
    torch.save(held, tmp_path / "a.ckpt")
    info = info_of(load(tmp_path / "a.ckpt"))
    assert info.arch == "timm:test_vit,img_size=96,num_classes=5"
    assert any("Callback in the file were left unread" in note for note in info.notes)


MEASURED = """
import sys, threading, time
import torch, timm
from tsdistill.models import load

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) * 1024

peak, done = 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.002)

load("timm:test_vit,pretrained=false")
base = anonymous()
thread = threading.Thread(target=watch)
thread.start()
model = load(sys.argv[1], arch=sys.argv[2])
done = True
thread.join()
print((peak - base) / sum(p.numel() * p.element_size() for p in model.parameters()))
"""


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_large_file_is_in_memory_once(tmp_path, suffix):
    """A file of 256 MB: beside the model itself, at most one of its tensors is in memory."""
    (tmp_path / "own.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    return nn.Sequential(*[nn.Linear(2048, 2048) for _ in range(16)])\n"
    )
    tensors = {}
    for number in range(16):
        tensors[f"{number}.weight"] = torch.full((2048, 2048), 0.1)
        tensors[f"{number}.bias"] = torch.zeros(2048)
    file = tmp_path / f"a{suffix}"
    (torch.save if suffix == ".pt" else safetensors.torch.save_file)(tensors, file)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(file), f"{tmp_path / 'own.py'}:build"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.25
