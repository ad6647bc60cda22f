"""The model before training: epoch 0 of the log, a warning where training harms, batch norms that stay."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tsdistill as tsd
from tests.distillation.small import digits, grouped, network, student
from tsdistill.distillation import TrainResult
from tsdistill.distillation.validation import worsened
from tsdistill.errors import TsdistillError
from tsdistill.models.layers.layer_kind import batch_norms

X, Y = digits().tensors
HELD_OUT = [(X[1000:1200], Y[1000:1200])]
WIDE = "tests/distillation/test_before_training.py:wide"
HOW: dict[str, Any] = {"epochs": 2, "batch_size": 64, "track": False, "device": "cpu"}


@cache
def teacher() -> nn.Module:
    model = network(32)
    tsd.train(
        model,
        data=[(X[:960], Y[:960])],
        options={"epochs": 60, "lr": 0.01, "batch_size": 960, "device": "cpu"},
    )
    return model


def distilled(model: nn.Module, data: Tensor = X[:512], **how: Any) -> TrainResult:
    return tsd.distill(model, teacher(), data=data, held_out=HELD_OUT, **grouped(**{**HOW, **how}))


def statistics(model: nn.Module) -> list[Tensor]:
    return [
        t.clone()
        for norm in batch_norms(model).values()
        for t in (norm.running_mean, norm.running_var)
        if t is not None
    ]


def test_epoch_0_is_the_model_before_training() -> None:
    fresh = student()
    figures = tsd.evaluate(fresh, HELD_OUT, reference=teacher())
    lines: list[Any] = []
    result = distilled(fresh, report=lines.append)
    assert [line["epoch"] for line in result.log] == [0, 1, 2]
    assert {name: result.log[0][f"val/{name}"] for name in figures} == figures
    assert result.log[0]["updates"] == 0
    assert "loss" not in result.log[0]
    assert tuple(lines) == result.log
    assert result.judged_by == ("top1", "%")
    assert worsened(result.log) == ""


def test_a_training_that_harms_is_warned_of_and_its_start_is_the_best(tmp_path: Path) -> None:
    good = copy.deepcopy(teacher())
    result = distilled(good, out=tmp_path / "run", arch=WIDE, lr=9.0)
    assert result.best == (0, result.log[0]["val/top1"])
    (warning,) = [note for note in result.notes if note.startswith("warning: ")]
    assert f"{result.log[-1]['val/top1']:.4g} %" in warning
    assert f"{result.log[0]['val/top1']:.4g} %" in warning
    best = tsd.load(
        tmp_path / "run" / "best.safetensors",
        arch=WIDE,
        trust=True,
    )
    for one, other in zip(best.state_dict().values(), teacher().state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert result.to_dict()["best"]["unit"] == "%"
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in logged] == [0, 1, 2]


def wide() -> nn.Module:
    """The teacher's architecture."""
    return network(32)


@pytest.mark.parametrize("choice", ["yes", "no"])
def test_batch_norms_keep_their_statistics_when_told_to(choice: str) -> None:
    model = copy.deepcopy(teacher())
    before = statistics(model)
    result = distilled(model, X[:512] + 1, freeze_bn=choice)
    same = [torch.equal(one, other) for one, other in zip(before, statistics(model), strict=True)]
    assert same == [choice == "yes"] * len(before)
    assert result.frozen_bn is (choice == "yes")
    assert not torch.equal(model[0].weight, teacher()[0].weight)


def test_data_unlike_the_held_out_ones_do_not_move_the_statistics_unasked() -> None:
    result = distilled(copy.deepcopy(teacher()), X[:512] + 1)
    assert result.frozen_bn
    assert any(note.startswith("batch norms keep their statistics") for note in result.notes)
    assert not distilled(copy.deepcopy(teacher()), X[:960]).frozen_bn


def test_a_student_that_has_learnt_nothing_and_one_without_a_teacher_follow_their_data() -> None:
    assert not distilled(student(), X[:512] + 1).frozen_bn
    trained = tsd.train(
        copy.deepcopy(teacher()), data=[(X[:512] + 1, Y[:512])], held_out=HELD_OUT, options=HOW
    )
    assert not trained.frozen_bn


def test_without_held_out_data_samples_of_the_training_data_judge() -> None:
    model = copy.deepcopy(teacher())
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d)
    result = tsd.distill(model, teacher(), data=X[:512] + 1, options=HOW)
    assert result.log[0]["epoch"] == 1
    assert result.frozen_bn


def test_what_was_decided_is_kept_by_a_resumed_run(tmp_path: Path) -> None:
    how: dict[str, Any] = {"out": tmp_path / "run", "arch": WIDE}
    model = copy.deepcopy(teacher())
    first = distilled(model, X[:512] + 1, **how)
    again = distilled(copy.deepcopy(teacher()), X[:512] + 1, resume=True, **how)
    assert again.frozen_bn
    assert again.log == first.log


def test_other_words_are_refused() -> None:
    with pytest.raises(TsdistillError, match=r"freeze_bn .*auto, yes, no"):
        distilled(student(), freeze_bn="maybe")
