"""Every command reads text with the tokenizer of the model's folder."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import one_line
from tests.language import TEXT, causal, encoder, folder

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of language, one that tells hidden tokens, and a text."""
    root = tmp_path_factory.mktemp("language")
    folder(causal(), root / "model")
    folder(encoder("BertForMaskedLM"), root / "bert")
    (root / "text.txt").write_text(TEXT)
    return root


@pytest.fixture
def text(place: Path) -> tuple[str, ...]:
    """The options that name the text."""
    return ("--data", str(place / "text.txt"), "--length", "8")


def test_prune_and_compare_read_text(fork: Run, place: Path, text: tuple[str, ...]) -> None:
    dense, small = str(place / "model"), str(place / "small.safetensors")
    done = fork("prune", dense, *text, "--samples", "30", "--macs", "0.8", "-o", small, "--json", "-")
    assert done.returncode == 0, done.stderr
    models = json.loads(done.stdout)["comparison"]["models"]
    assert models[1]["macs"] < models[0]["macs"]
    done = fork("compare", small, dense, *text, "--json", "-")
    assert done.returncode == 0, done.stderr
    compared = json.loads(done.stdout)
    assert f"of {place}/text.txt; labels: the next token; tokenizer {place}/model" in compared["data"]
    one_line(fork("compare", small, *text), "nothing says which one", "--tokenizer")
    assert fork("compare", small, *text, "--tokenizer", dense).returncode == 0


def test_a_folder_comes_out_that_transformers_reads(
    fork: Run, place: Path, text: tuple[str, ...], tmp_path: Path
) -> None:
    dense, small = str(place / "model"), tmp_path / "small"
    options = (*text, "--samples", "30", "--params", "0.8")
    done = fork("prune", dense, *options, "-o", str(small), "--json", "-")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["comparison"]["models"]
    assert figures[1]["params"] <= 0.8 * figures[0]["params"]
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(small)
    assert sum(p.numel() for p in model.parameters()) == figures[1]["params"]
    assert transformers.AutoTokenizer.from_pretrained(small)("the cat")["input_ids"]
    card = (small / "README.md").read_text()
    assert "perplexity" in card
    assert str(place / "text.txt") in card
    done = fork("compare", dense, str(small), *text, "--json", "-")
    assert done.returncode == 0, done.stderr
    one_line(fork("prune", dense, *options, "-o", str(small)), "not empty")
    one_line(fork("prune", dense, *options, "--uniform", "--rounds", "2", "-o", "x.pt"), "rounds")
    done = fork("prune", dense, *options, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "mlp" in done.stdout


def test_analyze_says_that_random_tokens_prove_nothing(fork: Run, place: Path, text: tuple[str, ...]) -> None:
    done = fork("analyze", str(place / "model"), "--no-cuts", "--samples", "16")
    assert "random tokens prove nothing" in " ".join(done.stdout.split())
    done = fork("analyze", str(place / "bert"), "--no-cuts", *text)
    assert done.returncode == 0, done.stderr
    assert "prove nothing" not in " ".join(done.stdout.split())


def test_distill_and_train_read_text(fork: Run, place: Path, text: tuple[str, ...]) -> None:
    training = (*text, "--val", text[1], "--epochs", "1", "--batch-size", "16")
    model, bert = str(place / "model"), str(place / "bert")
    done = fork("distill", model, "--teacher", model, *training, "-o", str(place / "distilled"))
    assert done.returncode == 0, done.stderr
    done = fork("train", bert, *training, "-o", str(place / "trained"))
    assert done.returncode == 0, done.stderr
    for name in ("distilled", "trained"):
        lines = [json.loads(line) for line in (place / name / "log.jsonl").read_text().splitlines()]
        assert any("val/perplexity" in line for line in lines)


def test_a_loss_of_perplexity_is_bounded_in_percent(fork: Run, place: Path, text: tuple[str, ...]) -> None:
    out = str(place / "dropped.safetensors")
    how = ("--samples", "20", "--max-drop", "30%", "-o", out, "--json", "-")
    done = fork("prune", str(place / "model"), *text, *how)
    assert done.returncode == 0, done.stderr
    search = json.loads(done.stdout)["search"]
    assert search["metric"] == "perplexity"
    assert search["max_drop"] == pytest.approx(0.3 * search["dense"])
    assert search["pruned"] <= 1.3 * search["dense"]


def test_an_export_takes_its_example_from_text(fork: Run, place: Path, text: tuple[str, ...]) -> None:
    out = place / "model.pt2"
    done = fork("export", str(place / "model"), *text, "-o", str(out), "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["export"]["check"]["difference"] < 1e-3
    program = torch.export.load(out).module()
    with torch.no_grad():
        assert program(input_ids=torch.full((5, 8), 7)).logits.shape == (5, 8, 60)
