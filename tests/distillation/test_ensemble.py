"""Several teachers: averaged in probability, through every path that one goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tsdistill as tsd
from tests.distillation.networks import Detector, X
from tests.distillation.small import ARCH, assert_same, digits, grouped, network, student, weights
from tsdistill.distillation.ensemble import Ensemble, as_teacher, members_of
from tsdistill.distillation.losses.loss_protocol import Step
from tsdistill.distillation.losses.output_losses import SoftTargets

DIGITS = digits().tensors[0][:64]


def test_class_scores_are_averaged_in_probability() -> None:
    one, two = network(20, 1).eval(), network(20, 2).eval()
    x = DIGITS
    found = Ensemble([one, two], [3, 1]).eval()(x).softmax(1)
    torch.testing.assert_close(found, 0.75 * one(x).softmax(1) + 0.25 * two(x).softmax(1))
    torch.testing.assert_close(Ensemble([one, one, one])(x), one(x))
    torch.testing.assert_close(Ensemble([one, two], [1, 0])(x), one(x))
    loss = SoftTargets(1)(Step(x, None, two(x), Ensemble([one, two])(x), two))
    p, q = (one(x).softmax(1) + two(x).softmax(1)) / 2, two(x).softmax(1)
    torch.testing.assert_close(loss, (p * (p / q).log()).sum(1).mean())


def test_maps_are_averaged_along_their_classes() -> None:
    torch.manual_seed(0)
    one, two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
    expected = (one(X).softmax(1) + two(X).softmax(1)) / 2
    torch.testing.assert_close(Ensemble([one, two])(X).softmax(1), expected)


def test_each_output_is_averaged_as_fits_it() -> None:
    one, two = Detector(), Detector(seed=3, named=False)
    with torch.no_grad():
        found, mine, theirs = Ensemble([one, two])(X), one(X), two(X)
    torch.testing.assert_close(found["boxes"], (mine["boxes"] + theirs[0]) / 2)
    expected = (mine["scores"].softmax(-1) + theirs[1].softmax(-1)) / 2
    torch.testing.assert_close(found["scores"].softmax(-1), expected)


def distil(teacher: Any, **more: Any) -> tsd.TrainResult:
    given = {"epochs": 3, "batch_size": 100, "samples": 400, "lr": 0.01, "track": False, **more}
    return tsd.distill(student(), teacher, data=digits(), **grouped(**given))


def test_a_student_learns_from_the_mean() -> None:
    teachers = [network(30, 1), network(30, 2)]
    states = [teacher.training for teacher in teachers]
    result = distil(teachers, epochs=8, loss="soft-targets:T=1", held_out=digits())
    assert [teacher.training for teacher in teachers] == states
    assert result.log[-1]["val/kl"] < 0.5 * result.log[0]["val/kl"]
    figures = tsd.evaluate(result.model, digits(), reference=Ensemble(teachers).eval())
    assert result.log[-1]["val/kl"] == pytest.approx(figures["kl"], rel=1e-4)


def test_a_teacher_twice_is_that_teacher() -> None:
    teacher = network(30, 1)
    how = {"optimizer": "sgd", "lr": 0.1}
    alone, twice = (distil(given, **how).model for given in (teacher, [teacher, teacher]))
    for name, value in weights(alone).items():
        torch.testing.assert_close(weights(twice)[name], value, rtol=1e-3, atol=1e-5)


def test_outputs_are_kept_and_a_run_goes_on(tmp_path: Path) -> None:
    teachers = [network(30, 1), network(30, 2)]
    how = {"arch": ARCH, "teacher_weights": [2.0, 1.0]}
    plain = distil(teachers, out=tmp_path / "a", **how).model
    kept = distil(teachers, out=tmp_path / "b", cache_teacher=True, **how).model
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(kept)[name], value, rtol=1e-4, atol=1e-5)
    again = distil(teachers, out=tmp_path / "b", cache_teacher=True, resume=True, **how)
    assert_same(weights(again.model), weights(kept))
    with pytest.raises(tsd.TsdistillError, match="shares_of_teachers was"):
        distil(teachers, out=tmp_path / "a", arch=ARCH, resume=True)
    assert "2 teachers, weights 0.667, 0.333" in " ".join(json.loads(json.dumps(again.to_dict()))["notes"])


def test_what_looks_at_nodes_looks_at_the_first_teacher() -> None:
    teachers = [network(30, 1), network(30, 2)]
    alone = distil(teachers[0], loss="node-alignment", track=True)
    first = distil(teachers, loss="node-alignment", track=True)
    assert_same(weights(first.model), weights(alone.model))
    assert first.log[-1]["alignment"] == alone.log[-1]["alignment"]
    assert first.history is not None
    assert any("look at the first" in note for note in first.notes)


class Wide(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :7]


def test_what_does_not_fit_is_refused() -> None:
    one, two, learner = network(20, 1), network(20, 2), student()
    for words, given, shares in (
        ("no teacher in the list", [], None),
        ("3 teacher weights for 2 teachers", [one, two], [1, 1, 1]),
        ("numbers from 0", [one, two], [1, -1]),
        ("numbers from 0", [one, two], [0, 0]),
        ("for several teachers", one, [1]),
        ("one object", [one, learner], None),
        ("teacher 2 has shape .*, 7.* where teacher 1 gives output", [one, Wide()], None),
    ):
        with pytest.raises(tsd.TsdistillError, match=words):
            tsd.distill(learner, given, data=digits(), teacher_weights=shares, options={"epochs": 1})
    with pytest.raises(tsd.TsdistillError, match="spreads one teacher"):
        distil([one, two], shard_teacher=True)
    assert as_teacher([one]) is one
    assert members_of(as_teacher(nn.ModuleList([one, two]))) == [one, two]
