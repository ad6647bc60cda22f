"""The experiment on a few images, called twice, and the table and figures that are made of its runs."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
QUICK = [
    *("--network", "strided", "--samples", "192", "--teacher-epochs", "1", "--epochs", "1", "--kept", "4"),
    *("--widths", "1", "2", "--seeds", "0", "--batch-size", "64", "--threads", "1"),
]


def run(out: Path) -> str:
    arguments = ["examples/cifar10/experiment.py", *QUICK, "--out", str(out)]
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.system("fashion-mnist")
def test_the_experiment_runs_through_and_is_not_run_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    assert "strong nodes 4-4-4-4" in first
    for width in (1, 2):
        figures = json.loads((tmp_path / "runs" / f"width-{width}-seed-0" / "figures.json").read_text())
        assert sorted(figures["epochs"]) == ["0", "1"]
        assert all(0 <= epoch["alignment"] <= 1 for epoch in figures["epochs"].values())
        assert figures["epochs"]["1"]["output_mse"] < figures["epochs"]["0"]["output_mse"]
    assert {"table.md", "alignment.png", "loss.png"} <= {file.name for file in tmp_path.iterdir()}
    again = run(tmp_path)
    assert "epoch 1:" not in again
    assert "| 2x | 1 |" in again


def outcome() -> ModuleType:
    spec = importlib.util.spec_from_file_location("outcome", ROOT / "examples" / "cifar10" / "outcome.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def figures(loss: float, correlation: float) -> dict[str, Any]:
    layers = {"alignment/0": correlation, "alignment/3": correlation - 0.1, "alignment/strong": 0.99}
    return {"output_mse": loss, "agreement": 80.0, "top1": 70.0, "alignment": correlation - 0.05, **layers}


def test_the_table_has_means_over_seeds_and_shows_what_there_is_so_far(tmp_path: Path) -> None:
    for width, seed, last in ((10, 0, 0.2), (10, 1, 0.4), (1, 0, 0.8)):
        folder = tmp_path / "runs" / f"width-{width}-seed-{seed}"
        folder.mkdir(parents=True)
        epochs = {"0": figures(1.5, 0.3), "1": figures(last, 0.9)}
        if seed:
            epochs["2"] = figures(0.1, 0.95)
        (folder / "figures.json").write_text(json.dumps({"width": width, "seed": seed, "epochs": epochs}))
    facts = {
        "data": "cifar10", "network": "plain", "dense": {"top1": 80.0}, "teacher": {"top1": 71.0},
        "nodes": {"0": 6, "3": 5}, "budget": "Students: 1 epoch.",
    }  # fmt: skip
    rows = [line for line in outcome().write_outcome(tmp_path, facts).splitlines() if "x |" in line]
    assert rows[0] == "| 1x | 1 | 0.8000 | 80.00 | 70.00 | 0.900 | 0.800 | 0.850 |"
    assert rows[1].startswith("| 10x | 2 | 0.3000 ± 0.1414 | 80.00 ± 0.00")
    assert "strong nodes 6-5" in (tmp_path / "table.md").read_text()
    for name in ("alignment.png", "loss.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
