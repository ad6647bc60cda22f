from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from tests.alignment.small import images, mlp, residual
from tsdistill.alignment import Thresholds, analyze
from tsdistill.errors import TsdistillError


def test_a_planted_student_shows_aligned_dead_weak_and_redundant_nodes() -> None:
    teacher, x = mlp(6, 5, 3, seed=4), torch.randn(3000, 6)
    student = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3))
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        student[0].weight[:4] = 2 * teacher[0].weight[:4]
        student[0].bias[:4] = 2 * teacher[0].bias[:4]
        student[0].weight[4:] = torch.randn(5, 6, generator=generator)
        student[0].bias[4:] = 0
        student[0].weight[5], student[0].bias[5] = 3 * student[0].weight[4], 3 * student[0].bias[4]
        student[0].bias[6] = -1e3
        student[2].weight[:, 7] *= 1e-5
    report = analyze(student, teacher, x)
    (group,) = report.groups
    assert report.has_teacher
    assert report.samples == 3000
    assert (group.teacher_group, group.teacher_size, group.teacher_aligned) == ("0", 5, 4)
    assert group.best[:4].tolist() == [0, 1, 2, 3]
    assert group.aligned.tolist() == [True] * 4 + [False] * 5
    np.testing.assert_allclose(group.similarity[:4], 1, atol=1e-5)
    assert np.flatnonzero(group.dead).tolist() == [6]
    assert np.flatnonzero(group.weak).tolist() == [7]
    assert np.flatnonzero(group.redundant).tolist() == [4, 5]
    assert np.flatnonzero(group.free).tolist() == [5, 6]
    assert group.candidate.sum() == 3
    assert group.candidate[4] != group.candidate[5]
    assert group.params_saved == report.params_saved == 3 * (6 + 1 + 3)
    assert group.macs_saved == report.macs_saved == 3 * (6 + 3)
    assert group.teacher_strength.shape == group.teacher_best.shape == (5,)


def test_without_a_teacher_the_best_match_is_another_node() -> None:
    model, x = residual(), images(200)
    report = analyze(model, data=x)
    assert not report.has_teacher
    for group in report.groups:
        assert bool((group.best != np.arange(group.size)).all())
        assert bool((group.similarity < 1).all())
        assert group.teacher_size == group.size


def test_thresholds_are_options() -> None:
    model, x = mlp(4, 8, 3), torch.randn(500, 4)
    loose = analyze(model, data=x, thresholds=Thresholds(aligned=0.0, weak=0.9, redundant=0.2)).groups[0]
    strict = analyze(model, data=x).groups[0]
    assert loose.weak.sum() > strict.weak.sum()
    assert loose.redundant.sum() > strict.redundant.sum()
    assert loose.aligned.sum() > strict.aligned.sum()


def test_at_least_one_node_is_no_candidate() -> None:
    model = mlp(4, 6, 3)
    model[2].weight.data.zero_()
    group = analyze(model, data=torch.randn(100, 4)).groups[0]
    assert group.candidate.sum() == 5


def test_the_report_is_plain_json_and_deterministic() -> None:
    model, x = residual(), images(40)
    with torch.no_grad():
        model.stem.weight[2], model.norm.weight[2], model.norm.bias[2] = 0, 0, 0
    report = analyze(model, data=x, metric="cosine")
    found, again = report.to_dict(), analyze(model, data=x, metric="cosine").to_dict()
    assert set(found.pop("seconds")) == set(again.pop("seconds"))
    text = json.dumps(found, allow_nan=False)
    assert text == json.dumps(again, allow_nan=False)
    data = json.loads(text)
    assert (data["format"], data["kind"], data["metric"]) == (1, "alignment", "cosine")
    stem = data["groups"][0]
    assert stem["name"] == "stem"
    assert len(stem["nodes"]["strength"]) == stem["size"] == 8
    assert len(stem["teacher_nodes"]["best"]) == 8
    assert "stem: 8 nodes" in str(report)


def test_batches_loaders_and_augmentation_are_taken() -> None:
    model, x = residual(), images(40)
    pairs = [(x[:20], torch.zeros(20)), (x[20:], torch.zeros(20))]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=20)
    one, two = analyze(model, data=pairs), analyze(model, data=loader)
    np.testing.assert_allclose(one.groups[0].strength, two.groups[0].strength, rtol=1e-6)
    other = analyze(model, data=pairs, augment="standard")
    assert not np.allclose(one.groups[0].strength, other.groups[0].strength, rtol=1e-3)
    assert "augmented: standard" in other.data


def test_nothing_of_the_model_changes() -> None:
    model, x = residual(), images(16)
    model.train()
    state = copy.deepcopy(model.state_dict())
    analyze(model, data=x)
    assert model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_a_metric_that_does_not_exist_is_one_line() -> None:
    with pytest.raises(TsdistillError, match="correlation"):
        analyze(mlp(4, 5, 2), data=torch.randn(8, 4), metric="corelation")


def test_weights_that_are_not_finite_are_named() -> None:
    model = mlp(4, 5, 2)
    model[2].weight.data[0, 0] = float("nan")
    with pytest.raises(TsdistillError, match=r"the model: 2\.weight holds NaN"):
        analyze(model, data=torch.randn(8, 4))


def test_a_model_that_cannot_be_cut_says_so() -> None:
    with pytest.raises(TsdistillError, match="nothing in this model can be cut"):
        analyze(mlp(4, 2), data=torch.randn(8, 4))


def test_a_model_that_does_not_know_its_inputs_asks_for_them() -> None:
    with pytest.raises(TsdistillError, match=r"example_input="):
        analyze(mlp(4, 5, 2))
    report = analyze(mlp(4, 5, 2), example_input=torch.zeros(1, 4), samples=64)
    assert report.synthetic
    assert report.samples == 64


def test_few_samples_are_noted() -> None:
    report = analyze(mlp(4, 30, 2), data=torch.randn(20, 4))
    assert any("too few samples" in note for note in report.notes)
