from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.networks import images, mlp, residual
from tsdistill import plugins
from tsdistill.alignment import analyze
from tsdistill.alignment.analysis import analyze_prepared
from tsdistill.data import Stream
from tsdistill.errors import TsdistillError
from tsdistill.options.data_options import DataOptions
from tsdistill.statistics.prepared_data import prepare


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
    loose = analyze(model, data=x, analysis={"aligned": 0.0, "weak": 0.9, "redundant": 0.2}).groups[0]
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
    report = analyze(model, data=x, analysis={"metric": "cosine"})
    found, again = report.to_dict(), analyze(model, data=x, analysis={"metric": "cosine"}).to_dict()
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
    other = analyze(model, data=pairs, inputs={"augment": "standard"})
    assert not np.allclose(one.groups[0].strength, other.groups[0].strength, rtol=1e-3)
    assert "augmented: standard" in other.data


def test_a_teacher_aware_augmentation_gets_the_teacher_or_else_the_model() -> None:
    student, teacher, x = mlp(6, 2, 3, seed=4), mlp(6, 2, 3, seed=5), torch.randn(200, 6)
    for model in (student, teacher):
        for parameter in model[0].parameters():
            parameter.data[1] = 3 * parameter.data[0]
    onto = "teacher-aware:share=1,scale=0"
    (plain,) = analyze(student, teacher, x).groups
    assert plain.strength[0] > 1e-3
    assert plain.teacher_strength[0] > 1e-3
    (beside,) = analyze(student, teacher, x, inputs={"augment": onto}).groups
    assert beside.strength[0] > 1e-3
    assert beside.teacher_strength[0] < 1e-5
    (alone,) = analyze(student, data=x, inputs={"augment": onto}).groups
    assert alone.strength[0] < 1e-5
    (three,) = analyze(student, data=x, inputs={"augment": "teacher-aware:share=1,copies=yes"}).groups
    assert three.strength[0] > 1e-3


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
        analyze(mlp(4, 5, 2), data=torch.randn(8, 4), analysis={"metric": "corelation"})


def test_weights_that_are_not_finite_are_named() -> None:
    model = mlp(4, 5, 2)
    model[2].weight.data[0, 0] = float("nan")
    with pytest.raises(TsdistillError, match=r"2\.weight.*NaN"):
        analyze(model, data=torch.randn(8, 4))


def test_a_model_that_cannot_be_cut_says_so() -> None:
    with pytest.raises(TsdistillError, match="cut"):
        analyze(mlp(4, 2), data=torch.randn(8, 4))


def test_a_model_that_does_not_know_its_inputs_asks_for_them() -> None:
    with pytest.raises(TsdistillError, match="example_input"):
        analyze(mlp(4, 5, 2))
    report = analyze(mlp(4, 5, 2), inputs={"example_input": torch.zeros(1, 4), "samples": 64})
    assert report.synthetic
    assert report.samples == 64


def test_few_samples_are_noted() -> None:
    report = analyze(mlp(4, 30, 2), data=torch.randn(20, 4))
    assert any("too few samples" in note for note in report.notes)


class _Raises:
    name = "broken"
    wants = "moments"

    def from_moments(self, moments: Any) -> Tensor:
        raise ZeroDivisionError("in the plugin")


class _RaisesLate:
    name = "late"
    wants = "batches"

    def start(self, students: int, teachers: int) -> Any:
        return self

    def update(self, student: Tensor, teacher: Tensor) -> None:
        raise RuntimeError


class _WrongShape:
    name = "shape"
    wants = "moments"

    def from_moments(self, moments: Any) -> Tensor:
        return torch.zeros(1, 1)


@pytest.fixture
def broken_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    known = plugins.items("alignment metric")
    metrics = {**known, "broken": _Raises(), "late": _RaisesLate(), "shape": _WrongShape(), "mute": object()}
    monkeypatch.setattr(plugins, "get", lambda kind, name: metrics[name])


@pytest.mark.usefixtures("broken_metrics")
def test_a_metric_that_raises_is_named_and_the_others_go_on() -> None:
    student, teacher, x = residual(1), residual(2), images(40)
    report = analyze(student, teacher, x, analysis={"metric": ["broken", "late", "shape", "cosine", "cka"]})
    assert report.failed["broken"] == "ZeroDivisionError: in the plugin"
    assert report.failed["late"] == "RuntimeError"
    assert "shape (1, 1)" in report.failed["shape"]
    assert set(report.failed) == {"broken", "late", "shape"}
    assert report.metric == "cosine"
    for group in report.groups:
        assert list(group.matches) == ["cosine"]
        assert 0 <= group.scores["cka"] <= 1
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.usefixtures("broken_metrics")
def test_without_a_metric_that_compares_nodes_the_correlation_does() -> None:
    student, teacher, x = residual(1), residual(2), images(40)
    for asked in ("cka", "broken", "weights"):
        report = analyze(student, teacher, x, analysis={"metric": asked})
        assert report.metric == "correlation"
        assert all("correlation" in group.matches for group in report.groups)
    assert list(report.groups[0].matches) == ["correlation", "weights"]


@pytest.mark.usefixtures("broken_metrics")
def test_a_metric_that_does_not_say_what_it_wants_is_one_line() -> None:
    with pytest.raises(TsdistillError, match="'mute'"):
        analyze(mlp(4, 5, 2), data=torch.randn(10, 4), analysis={"metric": "mute"})


def test_all_built_in_metrics_together_beside_a_teacher_and_alone() -> None:
    student, teacher, x = residual(1, inner=10), residual(2), images(64)
    names = plugins.names("alignment metric")
    report = analyze(student, teacher, x, analysis={"metric": names})
    first = report.by_name["stem"]
    assert not report.failed
    assert set(first.matches) | set(first.scores) >= set(names)
    assert {value.table.shape for value in first.matches.values()} == {(8, 8)}
    assert report.by_name["first"].matches["gates"].table.shape == (10, 12)
    alone = analyze(student, data=x, analysis={"metric": names})
    assert not alone.failed
    for name, value in alone.by_name["first"].scores.items():
        assert value == pytest.approx(1, abs=1e-4), name


def test_a_copy_aligns_with_its_model_whatever_the_order_and_scale_of_its_nodes() -> None:
    teacher, x = mlp(6, 10, 8, 3, seed=1), torch.randn(300, 6)
    student = copy.deepcopy(teacher)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    scale = torch.linspace(0.1, 9, 10)
    with torch.no_grad():
        student[0].weight.copy_(scale[:, None] * teacher[0].weight[order])
        student[0].bias.copy_(scale * teacher[0].bias[order])
        student[2].weight.copy_(teacher[2].weight[:, order] / scale)
    report = analyze(student, teacher, x)
    group = report.by_name["0"]
    alive = ~group.dead
    matches = group.matches["correlation"]
    assert torch.equal(torch.from_numpy(group.best)[alive], order[alive])
    np.testing.assert_array_equal(matches.one_to_one[alive], order.numpy()[alive])
    np.testing.assert_allclose(group.similarity[alive], 1, atol=1e-5)
    np.testing.assert_allclose(group.strength, group.teacher_strength[order], rtol=1e-3)
    for side in report.seconds.values():
        assert side >= 0


def test_nodes_whose_gate_is_always_on_are_saturated() -> None:
    model, x = mlp(4, 6, 3), torch.randn(200, 4).clamp(-3, 3)
    with torch.no_grad():
        model[0].bias[1] = 1000.0
        model[0].bias[2] = -1000.0
    group = analyze(model, data=x).by_name["0"]
    assert group.saturated.tolist() == [False, True, False, False, False, False]
    assert group.dead.tolist() == [False, False, True, False, False, False]
    assert group.on[1] == 1
    assert group.on[2] == 0
    smooth = copy.deepcopy(model)
    smooth[1] = nn.Sigmoid()
    assert not analyze(smooth, data=x).by_name["0"].saturated.any()


def test_pairs_override_and_need_a_teacher() -> None:
    student, teacher, x = mlp(4, 6, 5, 3), mlp(4, 7, 6, 3), torch.randn(60, 4)
    report = analyze(student, teacher, x, analysis={"pairs": {"0": "2"}})
    assert report.by_name["0"].teacher_group == "2"
    assert report.by_name["0"].teacher_size == 6
    with pytest.raises(TsdistillError, match="need a teacher"):
        analyze(student, data=x, analysis={"pairs": {"0": "2"}})


def test_a_teacher_with_other_inputs_is_one_line() -> None:
    with pytest.raises(TsdistillError, match="inputs"):
        analyze(mlp(4, 6, 3), mlp(5, 6, 3), torch.randn(60, 4))


def test_data_that_end_early_are_noted() -> None:
    class Short(Stream):
        def __iter__(self) -> Iterator[Any]:
            return itertools.islice(super().__iter__(), 1)

    x = torch.randn(40, 4)
    prepared = prepare(mlp(4, 6, 3), x, inputs=DataOptions(batch_size=16))
    prepared.stream.__class__ = Short
    report = analyze_prepared(mlp(4, 6, 3), None, prepared)
    assert report.samples == 16
    assert any("ended after 16 of 40 samples" in note for note in report.notes)


def test_data_of_any_finite_scale_give_the_same_picture() -> None:
    """Without biases a network of rectifiers scales with its inputs; what is said of its nodes does not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9, bias=False), nn.ReLU(), nn.Linear(9, 3, bias=False))
    x = torch.randn(400, 6)
    small, large = (analyze(model, data=x * scale).groups[0] for scale in (1.0, 2.0**100))
    np.testing.assert_allclose(large.similarity, small.similarity, atol=1e-4)
    np.testing.assert_allclose(large.r2, small.r2, atol=1e-4)
    assert large.candidate.tolist() == small.candidate.tolist()
