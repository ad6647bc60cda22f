"""Files that were made to harm: nothing runs, nothing swells, every refusal is one line."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tsdistill import models
from tsdistill.cli.main import main
from tsdistill.errors import TsdistillError
from tsdistill.models.files import checkpoint
from tsdistill.pruning.plan_file import PruningPlan

load: Any = models.load

TENSORS = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3, dtype=torch.float16)}


class Payload:
    """An object whose unpickling makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def torch_bytes(value, zipped=True):
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def poisoned(folder, name, held):
    """A payload as each kind of file may hold it."""
    file = folder / name
    if name.endswith((".pkl", ".safetensors", ".json", ".pt2")):
        file.write_bytes(pickle.dumps(held))
    else:
        torch.save(held, file, _use_new_zipfile_serialization=not name.startswith("old"))
    return file


SLOTS = ("a.pt", "old.pt", "a.pth", "a.ckpt", "a.bin", "a.tar", "a.pkl", "a.th", "a.safetensors", "a.pt2")


@pytest.mark.parametrize("name", SLOTS)
@pytest.mark.parametrize(
    "wrap", [lambda p: p, lambda p: {"state_dict": TENSORS, "x": p}, lambda p: {"w": [p]}]
)
def test_payload_is_not_executed(tmp_path, name, wrap):
    file = poisoned(tmp_path, name, wrap(Payload(tmp_path / "ran")))
    with pytest.raises(TsdistillError) as caught:
        load(file)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_payload_in_shards_plans_and_programs(tmp_path):
    payload = Payload(tmp_path / "ran")
    torch.save({"w": payload}, tmp_path / "pytorch_model.bin")
    with pytest.raises(TsdistillError, match="pickled Python objects"):
        load(tmp_path)
    poisoned(tmp_path, "plan.json", payload)
    with pytest.raises(TsdistillError, match="plan"):
        PruningPlan.from_json(tmp_path / "plan.json")
    with zipfile.ZipFile(tmp_path / "a.pt2", "w") as archive:
        archive.writestr("a/data/weights/model_weights_config.json", pickle.dumps(payload))
        archive.writestr("a/data/constants/custom_obj_0", pickle.dumps(payload))
    with pytest.raises(TsdistillError):
        load(tmp_path / "a.pt2")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("command", ["analyze", "prune", "compare"])
def test_command_line_says_one_line_and_exits_with_2(tmp_path, command, capsys):
    file = poisoned(tmp_path, "a.pt", Payload(tmp_path / "ran"))
    more = ["--macs", "0.5", "-o", str(tmp_path / "out.safetensors")] if command == "prune" else []
    with pytest.raises(SystemExit) as left:
        main([command, str(file), *([str(file)] if command == "compare" else []), *more])
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert said.startswith("tsdistill: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "place", ["../a.safetensors", "/etc/passwd", "sub/a.safetensors", "..", ".", "a\\b.safetensors"]
)
def test_shards_lie_beside_their_index(tmp_path, place):
    (tmp_path / "in").mkdir()
    safetensors.torch.save_file(TENSORS, tmp_path / "a.safetensors")
    index = {"weight_map": dict.fromkeys(TENSORS, place)}
    (tmp_path / "in" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(TsdistillError, match=r"no plain name|cannot be read|not a file"):
        load(tmp_path / "in")


def test_names_in_archives_lead_nowhere(tmp_path):
    (tmp_path / "in").mkdir()
    data = torch_bytes(TENSORS)
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(tmp_path / "in" / "a.pt", "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
        for name in ("../escaped", str(tmp_path / "absolute"), "a/../../escaped"):
            new.writestr(name, b"x")
        link = zipfile.ZipInfo("a/data/9")
        link.external_attr = 0o120777 << 16
        new.writestr(link, "/etc/passwd")
    found = checkpoint.read(tmp_path / "in" / "a.pt").tensors
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
    assert sorted(os.listdir(tmp_path)) == ["in"]


def test_names_of_tensors_cannot_write_to_the_terminal(tmp_path):
    safetensors.torch.save_file({"a\x1b[2J\nb": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(TsdistillError, match="is no name") as caught:
        load(tmp_path / "a.safetensors")
    assert str(caught.value).isprintable()


def test_memory_stays_in_proportion(tmp_path):
    """All bombs in one process that may not take 400 MB more than it has after its imports."""
    script = Path(__file__).with_name("bombs.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Error" not in done.stderr
