"""Killed at any moment, a run goes on and ends in the weights of one that was never killed."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import tsdistill as tsd
from tests.distillation.small import ARCH, assert_same, digits, network, student, weights
from tsdistill.distillation.losses import PlainLoss, Step

ROOT = Path(__file__).parents[2]
EPOCHS, BATCH, SAMPLES = 3, 64, 640
BATCHES = EPOCHS * (SAMPLES // BATCH)


class Told(PlainLoss):
    """Soft targets that write a byte to a pipe at every step."""

    def __init__(self, pipe: int | None) -> None:
        self._pipe = pipe
        self._renewed = 0

    def __call__(self, step: Step) -> torch.Tensor:
        if self._pipe is not None:
            os.write(self._pipe, b".")
        assert step.teacher_output is not None
        mine, theirs = (each.log_softmax(1) for each in (step.student_output, step.teacher_output))
        loss = torch.nn.functional.kl_div(mine, theirs, log_target=True, reduction="batchmean")
        return loss * (1 + 0.1 * self._renewed)

    def renew(self, batches: Any) -> None:
        self._renewed += 1

    def state_dict(self) -> dict[str, Any]:
        return {"renewed": self._renewed}

    def load_state_dict(self, state: Any) -> None:
        self._renewed = state["renewed"]


def train(
    out: Path | None, pipe: int | None, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> tsd.TrainResult:
    monkeypatch.setattr("tsdistill.distillation.run_setup.parse", lambda given: _combined(Told(pipe)))
    return tsd.distill(
        student(),
        network(48),
        data=digits(),
        out=out,
        arch=ARCH if out is not None else None,
        resume=out is not None,
        options={
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "samples": SAMPLES,
            "accumulate": 2,
            "optimizer": "adamw",
            "lr": 0.01,
            "ema": 0.9,
            "augment": "directions",
            "checkpoint_steps": 2,
            "track": False,
            **more,
        },
    )


def _combined(loss: PlainLoss) -> Any:
    from tsdistill.distillation.losses import Combined, Term

    return Combined([Term("told", 1.0, loss)])


def kill_until_done(
    out: Path, seed: int, kills: int, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> tuple[int, list[int]]:
    """Start processes that go on with the run in ``out``, and kill the first ``kills`` of them at random.

    Returns:
        how many died of it, and how many steps each process made.
    """
    draw, killed, steps = random.Random(seed), 0, []
    while True:
        at = draw.randrange(1, 12) if killed < kills else BATCHES + 1
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            _child(out, writes, monkeypatch, more)
        os.close(writes)
        made = 0
        while made < at and os.read(reads, 1):
            made += 1
        if made == at:
            time.sleep(draw.random() * 0.02)
            os.kill(child, signal.SIGKILL)
        os.close(reads)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        steps.append(made)
        if status == 0:
            return killed, steps
        assert status == -signal.SIGKILL, status
        killed += 1
        assert killed < 4 * kills, steps


def _child(out: Path, pipe: int, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]) -> None:
    code = 70
    try:
        signal.alarm(120)
        os.chdir(ROOT)
        train(out, pipe, monkeypatch, **more)
        code = 0
    finally:
        os._exit(code)


def check(tmp_path: Path, seed: int, kills: int, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    monkeypatch.chdir(ROOT)
    torch.set_num_threads(1)
    whole = weights(train(None, None, monkeypatch, **more).model)
    killed, number = 0, 0
    while killed < kills:
        out = tmp_path / f"run{number}"
        died, _ = kill_until_done(out, 100 * number + seed, kills - killed, monkeypatch, **more)
        killed, number = killed + died, number + 1
        assert_same(whole, weights(tsd.load(out / "model.safetensors", arch=ARCH)))
        assert not list(out.rglob(".*.tmp*"))
        assert len((out / "log.jsonl").read_text().splitlines()) == EPOCHS


def test_eight_kills_end_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(tmp_path, seed=0, kills=8, monkeypatch=monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 13))
def test_many_kills_with_workers(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve runs of eight kills, half of them with two workers, some renewing and tracking alignment."""
    more: dict[str, Any] = {"workers": 2 * (seed % 2), "renew_steps": 3 * (seed % 3 == 0)}
    check(tmp_path, seed, 8, monkeypatch, **more, track=seed % 4 == 0)
