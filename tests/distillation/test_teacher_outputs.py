"""Kept teacher outputs: asked once, found again, never those of another teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import tsdistill as tsd
from tests.distillation.processes import ROOT
from tests.distillation.small import ARCH, assert_same, digits, grouped, network, student, weights


class Counting(nn.Module):
    """A teacher that counts the samples it is asked about in training."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.inner = network(40, seed)
        self.asked = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked += len(x)
        return self.inner(x)


def run(out: Path, teacher: nn.Module, **more: Any) -> tsd.TrainResult:
    given = {"epochs": 3, "batch_size": 100, "samples": 400, "lr": 0.01, "track": False, **more}
    return tsd.distill(student(), teacher, data=digits(), out=out, arch=ARCH, **grouped(**given))


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_a_teacher_is_asked_once_for_each_sample(tmp_path: Path) -> None:
    plainly, kept = Counting(), Counting()
    model = run(tmp_path / "plainly", plainly).model
    other = run(tmp_path / "kept", kept, cache_teacher=True).model
    assert plainly.asked - kept.asked == 2 * 400
    for name, value in weights(model).items():
        torch.testing.assert_close(weights(other)[name], value, rtol=1e-4, atol=1e-5)
    again = Counting()
    run(tmp_path / "kept", again, cache_teacher=True, resume=True)
    assert again.asked < 400


def test_a_killed_run_finds_what_was_kept(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", Counting(), cache_teacher=True).model
    part = run(tmp_path / "run", Counting(), cache_teacher=True, epochs=3)
    (tmp_path / "run" / "checkpoints" / "last.pt").unlink()
    teacher = Counting()
    again = run(tmp_path / "run", teacher, cache_teacher=True, resume=True)
    assert again.resumed is None
    assert teacher.asked < 400
    for model in (part.model, again.model):
        assert_same(weights(model), weights(whole))


def test_outputs_of_another_teacher_are_not_used(tmp_path: Path) -> None:
    run(tmp_path / "run", Counting(), cache_teacher=True)
    (tmp_path / "run" / "checkpoints" / "last.pt").unlink()
    teacher = Counting(seed=7)
    run(tmp_path / "run", teacher, cache_teacher=True, resume=True)
    assert teacher.asked >= 400


def test_outputs_of_other_samples_are_not_used(tmp_path: Path) -> None:
    x, y = digits().tensors
    other = x.clone()
    other[::2] = other[::2].flip(1)
    given: dict[str, Any] = {"epochs": 2, "batch_size": 100, "lr": 0.01, "track": False, "device": "cpu"}
    kept: dict[str, Any] = {"out": tmp_path / "run", "arch": ARCH, "cache_teacher": True, "resume": True}

    def trained(values: torch.Tensor, teacher: nn.Module, **more: Any) -> nn.Module:
        data = TensorDataset(values[:400], y[:400])
        return tsd.distill(student(), teacher, data=data, **grouped(**given, **more)).model

    trained(x, Counting(), **kept)
    (tmp_path / "run" / "checkpoints" / "last.pt").unlink()
    teacher = Counting()
    assert_same(weights(trained(other, teacher, **kept)), weights(trained(other, Counting())))
    assert teacher.asked < 2 * 400
    with pytest.raises(tsd.TsdistillError, match="first_samples was"):
        trained(x, Counting(), **kept)


class Noisy(torch.utils.data.Dataset):
    """Digits with noise that differs every time."""

    def __init__(self) -> None:
        self.noise = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return 400

    def __getitem__(self, place: int) -> torch.Tensor:
        x = digits().tensors[0][place]
        return x + 0.1 * torch.randn(x.shape, generator=self.noise)


def test_samples_that_differ_every_time_are_asked_for_every_time(tmp_path: Path) -> None:
    given: dict[str, Any] = {"epochs": 2, "batch_size": 100, "track": False, "device": "cpu"}
    teacher = Counting()
    kept: dict[str, Any] = {"out": tmp_path / "run", "arch": ARCH, "cache_teacher": True}
    result = tsd.distill(student(), teacher, data=Noisy(), **grouped(**given, **kept))
    plainly = tsd.distill(student(), Counting(), data=Noisy(), **grouped(**given))
    assert teacher.asked >= 2 * 400
    assert_same(weights(result.model), weights(plainly.model))
    assert tsd.distill(student(), teacher, data=Noisy(), **grouped(**given, **kept, resume=True)).resumed == 8


def test_a_cache_may_be_left_and_taken_up_again(tmp_path: Path) -> None:
    first = run(tmp_path / "run", Counting(), cache_teacher=True)
    for cached in (False, True):
        again = run(tmp_path / "run", Counting(), cache_teacher=cached, resume=True)
        assert again.resumed == first.updates


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ("augmentation standard|augmentation directions", {"augment": "directions"}),
        ("mixup or cutmix", {"mixup": 0.2, "loss": "logits"}),
        ("teacher's features", {"loss": "node-alignment"}),
    ],
)
def test_inputs_that_change_are_refused(tmp_path: Path, words: str, more: dict[str, Any]) -> None:
    with pytest.raises(tsd.TsdistillError, match=words):
        run(tmp_path / "run", network(40), cache_teacher=True, **more)
