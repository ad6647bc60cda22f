"""``tsdistill prune`` with budgets that are measured: what may be lost, and how long a pass may take."""

import json
from pathlib import Path

import pytest

from .conftest import Run, one_line

MODEL = ("networks.py:convolutions", "--input-size", "3x16x16", "--data", "images.npz")


def test_the_largest_cut_that_loses_at_most_so_much(run: Run, work: Path) -> None:
    done = run(
        "prune",
        *MODEL,
        "--max-drop",
        "40",
        "--no-realign",
        "-o",
        "dropped.safetensors",
        "--json",
        "dropped.json",
    )
    assert done.returncode == 0, done.stderr
    assert "tsdistill:" not in done.stderr
    outcome = json.loads((work / "dropped.json").read_text())
    search = outcome["search"]
    assert search["metric"] == "top1"
    assert search["pruned"] >= search["dense"] - 40
    assert search["judged_on"].startswith("held-out samples")
    dense, small = outcome["comparison"]["models"]
    assert small["macs"] < dense["macs"]
    assert small["metrics"]["top1"] == pytest.approx(search["pruned"])
    for words in ("Cuts tried: top1", "written", "loses at most 40 %"):
        assert words in done.stdout
    assert (work / "dropped.safetensors").is_file()


def test_another_metric_judges(fork: Run) -> None:
    how = ("--max-drop", "0.9", "--metric", "output_mse", "-o", "judged.pt", "--json", "-")
    done = fork("prune", *MODEL, *how)
    assert done.returncode == 0, done.stderr
    search = json.loads(done.stdout)["search"]
    assert search["metric"] == "output_mse"
    assert 0 <= search["pruned"] <= 0.9


def test_a_latency_budget(fork: Run, work: Path) -> None:
    """Passes of a fifth of a millisecond: a busy machine may find none that is faster, and then says so."""
    done = fork("prune", *MODEL, "--latency", "0.95", "-o", "fast.safetensors", "--json", "-")
    if done.returncode == 2:
        one_line(done, "cannot be met")
        assert not (work / "fast.safetensors").exists()
        return
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert any(note.startswith("latency at batch 1") for note in outcome["notes"])
    assert (work / "fast.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-drop", "1", "--macs", "0.5", "-o", "x.pt"], ["--macs and --max-drop"]),
        (["--max-drop", "1", "--lossless", "-o", "x.pt"], ["--lossless and --max-drop"]),
        (["--max-drop", "some", "-o", "x.pt"], ["'some'"]),
        (["--max-drop", "1", "--dry-run"], ["--max-drop", "--dry-run"]),
        (["--max-drop", "1", "--save-plan", "p.json"], ["--max-drop", "-o OUT"]),
        (["--max-drop", "1", "--plan", "networks.py", "-o", "x.pt"], ["--max-drop", "--plan"]),
        (["--max-drop", "1", "--metric", "bleu", "-o", "x.pt"], ["bleu"]),
        (["--macs", "0.5", "--metric", "kl", "-o", "x.pt"], ["--metric", "--max-drop"]),
        (["--latency", "0.5", "--macs", "0.5", "-o", "x.pt"], ["--macs and --latency"]),
        (["--latency", "10", "-o", "x.pt"], ["10ms"]),
        (["--latency", "9s", "-o", "x.pt"], ["9s", "above"]),
        (["--latency", "1us", "-o", "x.pt"], ["cannot be met"]),
    ],
)
def test_bad_input_is_one_line(fork: Run, work: Path, arguments: list[str], words: list[str]) -> None:
    before = sorted(work.iterdir())
    one_line(fork("prune", *MODEL, *arguments), *words)
    assert sorted(work.iterdir()) == before
