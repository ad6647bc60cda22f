"""The loop does what a loop written by hand does, whatever batches make up an update."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import tsdistill as tsd
from tests.distillation.small import digits, grouped, network, weights
from tsdistill.data.training_data import open_training
from tsdistill.runtime.progress import TrainingStatus

BATCH, RATE = 128, 0.05


def plain(width: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def by_hand(student: nn.Module, teacher: nn.Module, epochs: int) -> nn.Module:
    data = open_training(digits(), None, batch_size=BATCH, seed=0)
    optimizer = torch.optim.SGD(student.parameters(), lr=RATE, momentum=0.9, nesterov=True)
    student.train()
    teacher.eval()
    for epoch in range(epochs):
        for batch in data.batches(epoch):
            with torch.no_grad():
                wanted = teacher(batch.x)
            loss = functional.mse_loss(student(batch.x), wanted, reduction="sum") / (2 * BATCH)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return student


def distilled(**more: Any) -> tsd.TrainResult:
    how = {"epochs": 2, "batch_size": BATCH, "lr": RATE, "optimizer": "sgd", "weight_decay": 0.0, **more}
    return tsd.distill(
        plain(20, 1),
        network(30),
        data=digits(),
        **grouped(loss="logits", sched="none", track=False, device="cpu", **how),
    )


def assert_close(one: nn.Module, other: nn.Module) -> None:
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(other)[name], value, rtol=1e-4, atol=1e-6)


def test_it_is_the_loop_written_by_hand() -> None:
    assert_close(by_hand(plain(20, 1), network(30), 2), distilled().model)


def test_batches_that_make_up_an_update() -> None:
    """14 batches of 128 are 2 updates of 7, or 5 of 3 of which the last has 2."""
    small, large = distilled(accumulate=7), distilled(batch_size=7 * BATCH, epochs=2)
    assert small.updates == large.updates == 4
    assert_close(small.model, large.model)
    assert distilled(accumulate=3).updates == 10


def test_steps_end_a_run() -> None:
    result = distilled(steps=20, epochs=9)
    assert result.updates == 20
    assert [line["epoch"] for line in result.log] == [1, 2]


def test_the_average_is_what_is_kept() -> None:
    averaged, last = distilled(ema=0.9), distilled()
    assert not torch.equal(averaged.model[0].weight, last.model[0].weight)


def test_half_precision_trains_in_single() -> None:
    result = distilled(amp="bf16")
    assert result.model[0].weight.dtype == torch.float32
    assert result.log[-1]["loss"] < result.log[0]["loss"]


@pytest.mark.parametrize("kept", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("learnt", [torch.bfloat16, torch.float32, torch.float64])
def test_models_of_any_precision_teach_each_other(learnt: torch.dtype, kept: torch.dtype) -> None:
    model, teacher = plain(8, 1).to(learnt), plain(8, 2).to(kept)
    result = tsd.distill(
        model,
        [teacher, plain(8, 3)],
        data=digits(),
        options={"epochs": 2, "lr": 0.01, "batch_size": 256, "device": "cpu"},
    )
    assert result.model[0].weight.dtype == learnt
    assert result.log[-1]["loss"] < result.log[0]["loss"]


def test_a_student_in_double_precision_reads_its_inputs_in_it() -> None:
    x = 1 + 1e-12 * torch.rand(32, 64, dtype=torch.float64)
    model, seen = plain(8, 1).double(), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tsd.distill(model, plain(8, 2), data=x, options={"epochs": 1, "track": False, "device": "cpu"})
    assert torch.equal(seen[-1].sort(0).values, x.sort(0).values)


def test_progress_and_the_lines_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsdistill.distillation.loop._STATUS_SECONDS", 0.0)
    calls: list[tuple[str, int, int | None]] = []
    distilled(progress=lambda *call: calls.append(call))
    assert calls == [(f"epoch {epoch}/2", batch, 14) for epoch in (1, 2) for batch in range(1, 15)]
    seen: list[TrainingStatus] = []
    lines: list[Any] = []
    with pytest.warns(DeprecationWarning, match="tell="):
        result = tsd.distill(
            plain(20, 1),
            network(30),
            data=digits(),
            options={"epochs": 2, "batch_size": BATCH, "accumulate": 2, "track": False, "device": "cpu"},
            tell=seen.append,  # type: ignore[call-arg]
            report=lines.append,
        )
    assert [status.batch for status in seen] == [*range(1, 15)] * 2
    assert (seen[-1].epoch, seen[-1].epochs, seen[-1].batches, seen[-1].updates) == (1, 2, 14, 14)
    assert seen[-1].left == 0
    assert tuple(lines) == result.log
    assert {"epoch", "loss", "lr", "samples", "rate", "seconds", "skipped", "updates"} <= set(lines[0])


def test_labels_that_no_loss_reads_are_mentioned() -> None:
    read = tsd.train(plain(20, 1), data=digits(), options={"epochs": 1, "device": "cpu"})
    assert any("does not read them" in note for note in distilled().notes)
    assert not any("does not read them" in note for note in read.notes)


def test_global_generators_are_left_as_they_were() -> None:
    model = network(4)
    state = torch.get_rng_state()
    tsd.train(model, data=digits(), options={"epochs": 1, "seed": 9})
    assert torch.equal(torch.get_rng_state(), state)


def test_a_stream_and_batches_from_python() -> None:
    given = [(x, y) for x, y in zip(*(t.split(200) for t in digits().tensors), strict=True)]
    for data in (given, iter(given)):
        result = tsd.train(network(16), data=data, options={"epochs": 2, "lr": 0.01})
        assert result.log[0]["samples"] == result.log[1]["samples"] == 1797
        assert result.log[1]["loss"] < result.log[0]["loss"]
