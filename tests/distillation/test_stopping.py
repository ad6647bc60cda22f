"""What stops a run leaves it whole: NaN, Ctrl-C, a full disk; and what a resumed run must have in common."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import tsdistill as tsd
from tests.distillation.processes import ROOT, in_processes
from tests.distillation.small import ARCH, assert_same, digits, grouped, network, student, weights
from tsdistill.distillation import Interrupted
from tsdistill.distillation.losses import Combined, PlainLoss, Step, Term


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


class Squares(PlainLoss):
    """Mean squares; something happens at a step."""

    def __init__(self, at: int = -1, happens: Any = None) -> None:
        self._at, self._happens, self._step = at, happens, 0

    def __call__(self, step: Step) -> torch.Tensor:
        self._step += 1
        loss = (step.student_output - step.teacher_output).square().mean()
        return self._happens(loss) if self._step == self._at else loss


def run(out: Path, loss: PlainLoss | None, monkeypatch: pytest.MonkeyPatch, **more: Any) -> tsd.TrainResult:
    if loss is not None:
        combined = Combined([Term("squares", 1.0, loss)])
        monkeypatch.setattr("tsdistill.distillation.run_setup.parse", lambda given: combined)
    given: dict[str, Any] = {"epochs": 2, "batch_size": 256, "checkpoint_steps": 2, "lr": 0.01, **more}
    return tsd.distill(
        student(), network(32), data=digits(), out=out, arch=ARCH, **grouped(track=False, **given)
    )


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(tsd.TsdistillError, match=r"squares.* batch 4 of epoch 2, after 10 updates") as caught:
        run(tmp_path / "run", Squares(11, lambda loss: loss * float("nan")), monkeypatch)
    assert "model.safetensors" in str(caught.value)
    kept = tsd.load(tmp_path / "run" / "model.safetensors", arch=ARCH)
    ten = run(tmp_path / "ten", Squares(), monkeypatch, steps=10, epochs=2, sched="none").model
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights(kept).values())
    assert weights(kept).keys() == weights(ten).keys()


def test_weights_that_are_no_numbers_go_back_to_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Poison(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, loss: torch.Tensor) -> torch.Tensor:
            return loss.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * float("nan")

    with pytest.raises(tsd.TsdistillError, match="batch 3 of epoch 2"):
        run(tmp_path / "run", Squares(9, Poison.apply), monkeypatch)
    kept = tsd.load(tmp_path / "run" / "model.safetensors", arch=ARCH)
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt")
    assert state["position"]["updates"] == 8
    assert_same(weights(kept), state["student"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def ask(loss: torch.Tensor) -> torch.Tensor:
        os.kill(os.getpid(), number)
        return loss

    before = signal.getsignal(number)
    whole = run(tmp_path / "whole", Squares(), monkeypatch).model
    with pytest.raises(Interrupted, match="after 5 updates; resume=True"):
        run(tmp_path / "run", Squares(5, ask), monkeypatch)
    assert signal.getsignal(number) == before
    result = run(tmp_path / "run", Squares(), monkeypatch, resume=True)
    assert result.resumed == 5
    assert_same(weights(whole), weights(result.model))


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the size of files stands for a disk that runs full while a checkpoint is written."""
    out = tmp_path / "run"
    whole = run(tmp_path / "whole", None, monkeypatch).model

    def fill() -> None:
        def full(_stage: str, done: int, _total: int | None) -> None:
            if done >= 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))

        monkeypatch.setattr("tsdistill.distillation.loop._STATUS_SECONDS", 0.0)
        with pytest.raises(tsd.TsdistillError, match=r"last\.pt"):
            run(out, None, monkeypatch, progress=full)

    in_processes(1, fill)
    state = torch.load(out / "checkpoints" / "last.pt")
    assert state["position"] == {"epoch": 0, "batch": 2, "updates": 2}
    assert [file.name for file in (out / "checkpoints").iterdir()] == ["last.pt"]
    assert_same(weights(whole), weights(run(out, None, monkeypatch, resume=True).model))


def test_changed_options_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    run(out, None, monkeypatch, epochs=1)
    with pytest.raises(tsd.TsdistillError, match="holds a run already"):
        run(out, None, monkeypatch, epochs=1)
    with pytest.raises(tsd.TsdistillError, match=r"optimizer .*adamw .*sgd.*lr .*0\.01 .*0\.02"):
        run(out, None, monkeypatch, epochs=1, lr=0.02, optimizer="sgd", resume=True)
    same = run(out, None, monkeypatch, epochs=1, resume=True, workers=1, strict=True, checkpoint_steps=7)
    assert same.resumed == 7
    torch.manual_seed(5)
    with pytest.raises(tsd.TsdistillError, match="teacher_weights was"):
        tsd.distill(
            student(),
            network(32, seed=9),
            data=digits(),
            out=out,
            arch=ARCH,
            resume=True,
            options={"epochs": 1, "batch_size": 256, "lr": 0.01, "track": False, "checkpoint_steps": 2},
        )


def test_a_damaged_checkpoint_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    run(out, None, monkeypatch, epochs=1)
    last = out / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:300])
    with pytest.raises(tsd.TsdistillError, match=r"last\.pt"):
        run(out, None, monkeypatch, epochs=1, resume=True)


def test_resuming_where_there_is_nothing_starts_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(tmp_path / "run", None, monkeypatch, resume=True)
    assert result.resumed is None
    assert [json.loads(line)["epoch"] for line in (tmp_path / "run" / "log.jsonl").open()] == [1, 2]
    assert json.loads((tmp_path / "run" / "options.json").read_text())["options"]["lr"] == 0.01
