import importlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import tsdistill as tsd

from .conftest import Run, one_line

MODELS = ("networks.py:vectors", "networks.py:narrow", "--input-size", "12")
DATA = ("--data", "vectors.npz")

OTHERS = """
import torch
from torch import nn


class Detector(nn.Module):
    def __init__(self, threshold):
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, pictures):
        found = []
        for picture in pictures:
            places = (picture[0] > self.threshold).nonzero().float()
            found.append({"boxes": torch.cat([places.amin(0), places.amax(0) + 1])[None]})
        return found


def sharp():
    return Detector(0.2)


def blunt():
    return Detector(0.5)


def values():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 1))
"""

PLUGIN = '''
import torch
from torch.utils.data import Dataset
from torchvision.ops import box_iou

from tsdistill import hookimpl


class Rectangles(Dataset):
    """Pictures with a rectangle in each, its left half dark."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        x = torch.zeros(3, 16, 16)
        x[:, 2:10, 4:8], x[:, 2:10, 8 : 12] = 0.4, 1
        return x, {"boxes": torch.tensor([[2.0, 4, 10, 12]])}


class MeanIoU:
    needs = frozenset({"labels"})
    wants = "raw"
    unit = "%"

    def __init__(self):
        self.overlaps = []

    def update(self, outputs, labels, reference_outputs):
        for found, true in zip(outputs, labels, strict=True):
            self.overlaps += (100 * box_iou(true["boxes"], found["boxes"])).max(1).values.tolist()

    def compute(self):
        return sum(self.overlaps) / len(self.overlaps)


@hookimpl
def register_data_sources(register):
    register("rectangles", lambda argument, spec: Rectangles())


@hookimpl
def register_evaluation_metrics(register):
    register("iou", MeanIoU)
'''


@pytest.fixture(scope="module")
def compared(run: Run, work: Path) -> subprocess.CompletedProcess[str]:
    (work / "others.py").write_text(OTHERS)
    for name, size in (("vectors", (12,)), ("convolutions", (3, 16, 16))):
        factory = f"{work}/networks.py:{name}"
        tsd.save(tsd.load(factory, inputs={"input_size": size}), work / f"{name}.safetensors", arch=factory)
    for needed in ("timm", "tsdistill.evaluation", "tsdistill.report.comparison_figure"):
        importlib.import_module(needed)
    return run("compare", *MODELS, *DATA, "--batch-size", "8", "--json", "c.json", "--plot", "c.png")


def test_what_is_printed(compared: subprocess.CompletedProcess[str], work: Path) -> None:
    assert compared.returncode == 0, compared.stderr
    assert "tsdistill:" not in compared.stderr
    assert "\x1b" not in compared.stdout
    for words in (
        "networks.py:vectors",
        "parameters",
        "MACs",
        "file",
        "latency, batch 1",
        "samples/s, batch 8",
        "peak memory, batch 8",
        "top-1 accuracy",
        "top-1 agreement with",
        "KL divergence",
        "(0.27x)",
        "all 200 samples",
        "medians",
    ):
        assert words in compared.stdout
    assert "top-5" not in compared.stdout
    assert (work / "c.png").read_bytes().startswith(b"\x89PNG")


def test_json_holds_the_same_and_can_be_read_back(
    compared: subprocess.CompletedProcess[str], work: Path
) -> None:
    plain = json.loads((work / "c.json").read_text())
    assert (plain["format"], plain["kind"], plain["batch_size"]) == (1, "comparison", 8)
    dense, small = plain["models"]
    assert dense["name"] == "networks.py:vectors"
    assert dense["metrics"]["agreement"] == 100
    assert small["macs"] / dense["macs"] == small["ratios"]["macs"]
    held = np.load(work / "vectors.npz")
    model = tsd.load(f"{work}/networks.py:narrow", inputs={"input_size": (12,)})
    with torch.no_grad():
        right = model(torch.from_numpy(held["x"])).argmax(1).numpy() == held["y"]
    assert small["metrics"]["top1"] == pytest.approx(100 * right.mean())
    back = tsd.Comparison.from_dict(plain)
    assert back.names == ("networks.py:vectors", "networks.py:narrow")


def test_json_to_stdout_is_nothing_else(fork: Run) -> None:
    done = fork(
        "compare", *MODELS, *DATA, "--metric", "kl", "--metric", "top1", "--samples", "50", "--json", "-"
    )
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert list(plain["metrics"]) == ["kl", "top1"]
    assert "50 of 200" in plain["data"]


def test_without_data_costs_only_and_it_says_so(fork: Run) -> None:
    done = fork("compare", *MODELS)
    assert done.returncode == 0, done.stderr
    assert "costs only; give --data" in done.stdout
    assert "peak memory, batch 32" in done.stdout
    assert "accuracy" not in done.stdout


def test_files_count_as_they_are_and_may_need_an_architecture(
    fork: Run, work: Path, compared: subprocess.CompletedProcess[str]
) -> None:
    arguments = ("bare.pt", "vectors.safetensors", "--arch", "networks.py:vectors", "--input-size", "12")
    done = fork("compare", *arguments, "networks.py:vectors", "--json", "-")
    assert done.returncode == 0, done.stderr
    sizes = [model["file_size"] for model in json.loads(done.stdout)["models"]]
    assert sizes[:2] == [(work / name).stat().st_size for name in arguments[:2]]
    assert sizes[2] == 4 * (12 * 30 + 30 + 30 * 4 + 4)


def test_regression(fork: Run, work: Path, compared: subprocess.CompletedProcess[str]) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        work / "floats.npz", x=rng.normal(size=(40, 12)).astype("f4"), y=rng.normal(size=40).astype("f4")
    )
    arguments = ("others.py:values", "others.py:values", "--input-size", "12", "--data", "floats.npz")
    done = fork("compare", *arguments)
    assert done.returncode == 0, done.stderr
    assert "mean squared error" in done.stdout
    assert "relative output error" in done.stdout


def test_detectors_with_a_plugin_for_boxes(
    run: Run, compared: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    info = tmp_path / "boxes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: boxes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tsdistill]\nboxes = boxes_plugin\n")
    (tmp_path / "boxes_plugin.py").write_text(PLUGIN)
    models = ("others.py:sharp", "others.py:blunt", "--input-size", "3x16x16", "--data", "rectangles")
    environment = {"PYTHONPATH": str(tmp_path), "TSDISTILL_PLUGINS": "boxes"}
    done = run("compare", *models, "--metric", "iou", "--json", "-", **environment)
    assert done.returncode == 0, done.stderr
    assert [model["metrics"]["iou"] for model in json.loads(done.stdout)["models"]] == [100, 50]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["DENSE PRUNED"]),
        (["nowhere.pt", "bare.pt"], ["nowhere.pt", "no such file"]),
        (["cut_off.pt"], ["cut_off.pt"]),
        ([*MODELS, "--data", "nowhere.npz"], ["nowhere.npz"]),
        ([*MODELS, *DATA, "--metric", "top11"], ["top11", "top1"]),
        ([*MODELS, "--metric", "top1"], ["--metric goes with --data"]),
        ([*MODELS, "--plot", "c.png"], ["--plot goes with --data"]),
        ([*MODELS, *DATA, "--plot", "c.docx"], ["c.docx", ".png"]),
        ([*MODELS, *DATA, "--plot", "no/such/c.png"], ["no/such"]),
        ([*MODELS, *DATA, "--json", "no/such/c.json"], ["no/such"]),
        ([*MODELS, "--data", "large.npz", "--metric", "top1"], ["top1 needs labels"]),
        ([*MODELS, *DATA, "--metric", "top5"], ["top5 needs 5 classes"]),
        ([*MODELS, "--device", "nonsense"], ["no device 'nonsense'"]),
        ([*MODELS[:1], "networks.py:convolutions", "--input-size", "12"], ["convolutions", "forward"]),
        (["networks.py:vectors", "others.py:values", "--input-size", "12"], ["others.py:values", "(1, 1)"]),
        (["networks.py:vectors", "networks.py:not_finite", "--input-size", "12"], ["not_finite"]),
        (["networks.py:vectors"], ["--input-size"]),
        (["networks.py:overflowing", "networks.py:vectors", "--input-size", "12", "--data", "large.npz"],
         ["the model networks.py:overflowing", "NaN"]),
        (["vectors.safetensors", "convolutions.safetensors", "--trust"], ["inputs of 12", "3x16x16"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    fork: Run, compared: subprocess.CompletedProcess[str], arguments: list[str], words: list[str]
) -> None:
    one_line(fork("compare", *arguments), *words)
