import json
from pathlib import Path

import pytest

import tsdistill as tsd
from tsdistill.cli.prune_sweep import budgets_of, file_name

from .conftest import Run, one_line

MODEL = ("networks.py:convolutions", "--input-size", "3x16x16", "--data", "images.npz")


def test_a_sweep(run: Run, work: Path) -> None:
    done = run("prune", *MODEL, "--sweep", "0.8, 60%,0.01", "-o", "swept")
    assert done.returncode == 0, done.stderr
    assert "tsdistill:" not in done.stderr
    folder = work / "swept"
    assert sorted(file.name for file in folder.iterdir()) == [
        "macs-0.8.safetensors",
        "macs-60percent.safetensors",
        "pareto.png",
        "sweep.json",
    ]
    assert (folder / "pareto.png").read_bytes()[:4] == b"\x89PNG"
    swept = json.loads((folder / "sweep.json").read_text())
    dense, first, second = swept["comparison"]["models"]
    assert first["macs"] <= 0.8 * dense["macs"]
    assert second["macs"] <= 0.6 * dense["macs"]
    model = tsd.load(folder / "macs-60percent.safetensors", arch=f"{work}/networks.py:convolutions")
    assert sum(p.numel() for p in model.parameters()) == second["params"]
    for words in ("Sweep over MACs", "dense", "60%", "held-out samples", "0.01 of the MACs cannot be met"):
        assert words in done.stdout


def test_a_sweep_over_parameters_as_json(fork: Run, work: Path) -> None:
    done = fork("prune", *MODEL, "--sweep", "0.7", "--sweep-by", "params", "-o", "by_params", "--json", "-")
    assert done.returncode == 0, done.stderr
    swept = json.loads(done.stdout)
    assert swept == json.loads((work / "by_params" / "sweep.json").read_text())
    assert swept["amounts"][1] <= 0.7 * swept["amounts"][0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sweep", "0.8,0.6", "--macs", "0.5", "-o", "x"], ["--macs and --sweep"]),
        (["--sweep", "0.8,0.6", "--max-drop", "1", "-o", "x"], ["--max-drop and --sweep"]),
        (["--sweep", "0.8,0.6", "--plan", "networks.py", "-o", "x"], ["--sweep", "--plan"]),
        (["--sweep", "0.8,0.6", "--dry-run", "-o", "x"], ["--sweep", "--dry-run"]),
        (["--sweep", "0.8,0.6", "--save-plan", "p.json", "-o", "x"], ["--sweep", "--save-plan"]),
        (["--sweep", "0.8,0.6", "--save-plan", "p.json"], ["--sweep", "-o"]),
        (["--sweep", "0.8,0.6"], ["-o"]),
        (["--sweep", "0.8,half", "-o", "x"], ["half"]),
        (["--sweep", ",", "-o", "x"], ["needs budgets"]),
        (["--sweep", "0.8,80%", "-o", "x"], ["80%", "twice"]),
        (["--sweep", "0.8", "-o", "images.npz"], ["images.npz is a file"]),
        (["--sweep", "0.8", "-o", "no/such/x"], ["no/such"]),
        (["--sweep", "10kg", "--sweep-by", "latency", "-o", "x"], ["10kg"]),
        (["--sweep", "0.8", "--metric", "top1", "-o", "x"], ["--metric", "--max-drop"]),
    ],
)
def test_bad_input_is_one_line(fork: Run, work: Path, arguments: list[str], words: list[str]) -> None:
    before = sorted(work.iterdir())
    one_line(fork("prune", *MODEL, *arguments), *words)
    assert sorted(work.iterdir()) == before


@pytest.mark.parametrize(
    ("kind", "budget", "name"),
    [
        ("macs", "0.8", "macs-0.8.safetensors"),
        ("params", "5M", "params-5M.safetensors"),
        ("latency", "10 ms", "latency-10ms.safetensors"),
        ("macs", "50%", "macs-50percent.safetensors"),
    ],
)
def test_files(kind: str, budget: str, name: str) -> None:
    assert file_name(kind, budget) == name


def test_lists() -> None:
    assert budgets_of(" 0.8,0.6 ,,50% ") == ["0.8", "0.6", "50%"]
