"""Options from files, by name, and what differs between two of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tsdistill.errors import TsdistillError
from tsdistill.options.option_files import read_options
from tsdistill.options.train_options import TrainOptions, differences

TOML = 'epochs = 3\nlr = 1\nloss = {"soft-targets:T=4" = 1, "hints" = 0.5}\ntransform = {hflip = 0.5}\n'
YAML = "epochs: 3\nlr: 1.0\nloss:\n  soft-targets:T=4: 1\n  hints: 0.5\ntransform: {hflip: 0.5}\n"


@pytest.mark.parametrize(("suffix", "text"), [("toml", TOML), ("yaml", YAML)])
def test_files(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"run.{suffix}"
    path.write_text(text)
    options = TrainOptions.of(read_options(path))
    assert (options.epochs, options.lr) == (3, 1.0)
    assert options.loss == {"soft-targets:T=4": 1.0, "hints": 0.5}
    saved = tmp_path / "options.json"
    saved.write_text(json.dumps({"tsdistill": "0.1", "options": options.to_dict()}))
    assert TrainOptions.of(read_options(saved)) == options


def test_losses_as_text() -> None:
    assert TrainOptions.of({"loss": "a:T=4 + 0.5*b"}).loss == {"a:T=4": 1.0, "b": 0.5}
    assert TrainOptions.of({"loss": ["2*a", "b"]}).loss == {"a": 2.0, "b": 1.0}
    with pytest.raises(TsdistillError, match="loss a "):
        TrainOptions.of({"loss": "a+a"})


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("run.toml", "epochz = 3", "did you mean epochs"),
        ("run.toml", "epochs = 2.5", "epochs takes a whole number"),
        ("run.toml", "epochs = ", "run.toml"),
        ("run.yaml", "- 3", "holds no options"),
        ("run.ini", "epochs=3", ".toml, .yaml or .json"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(TsdistillError) as caught:
        TrainOptions.of(read_options(path), str(path))
    assert words in str(caught.value)
    assert name in str(caught.value)


def test_differences() -> None:
    one, other = TrainOptions(lr=0.1), TrainOptions(lr=0.2, workers=3, loss={"hints": 1.0})
    assert differences(other.to_dict(), one.to_dict()) == [
        'loss was {} and is {"hints": 1.0}',
        "lr was 0.1 and is 0.2",
    ]


def test_the_learning_rate_that_optimizers_usually_get() -> None:
    assert TrainOptions(optimizer="sgd").rate == 0.1
    assert TrainOptions(optimizer="lamb").rate == 0.001


@pytest.mark.parametrize(
    "given",
    [
        {"seed": 2**64},
        {"seed": 10**400},
        {"lr": math.inf},
        {"warmup": math.nan},
        {"checkpoint_minutes": math.inf},
        {"epochs": True},
        {"epochs": "3"},
        {"loss": {"a": math.nan}},
        {"loss": {"a": 10**400}},
        {"loss": [[[]]]},
        {"transform": [1]},
        {"outputs": {"a": 3}},
    ],
)
def test_values_without_meaning_are_one_line(given: dict[str, Any]) -> None:
    with pytest.raises(TsdistillError) as caught:
        TrainOptions.of(given)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
