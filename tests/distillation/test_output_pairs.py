"""Students of several outputs: each is taught, with a loss that fits it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import tsdistill as tsd
from tests.distillation.networks import Detector, X
from tests.distillation.small import assert_same, grouped, weights
from tsdistill.cli.training_output import epoch_line
from tsdistill.distillation.losses import PlainLoss, Step
from tsdistill.plugins.manager import registry

HERE = "tests/distillation/test_output_pairs.py"


def small() -> nn.Module:
    return Detector(6, seed=1)


def distil(student: nn.Module, teacher: nn.Module, data: Any = X, **more: Any) -> tsd.TrainResult:
    given = {"epochs": 4, "batch_size": 16, "lr": 0.02, "track": False, "device": "cpu", **more}
    return tsd.distill(student, teacher, data=data, **grouped(**given))


def gaps(one: nn.Module, other: nn.Module) -> list[float]:
    with torch.no_grad():
        pair = [model.eval()(X) for model in (one, other)]
    mine, theirs = (list(y.values()) if isinstance(y, dict) else list(y) for y in pair)
    return [float((a - b).square().mean()) for a, b in zip(mine, theirs, strict=True)]


@pytest.mark.parametrize(("named", "losses"), [
    (True, {"mse@boxes": 1.0, "soft-targets@scores": 1.0}), (False, {"mse@0": 1.0, "mse@1": 1.0}),
])  # fmt: skip
def test_every_output_comes_nearer_and_every_column_falls(named: bool, losses: dict[str, float]) -> None:
    teacher, student = Detector(named=named), Detector(6, seed=1, named=named)
    before = gaps(student, teacher)
    result = distil(student, teacher)
    after = gaps(result.model, teacher)
    assert all(b < 0.7 * a for a, b in zip(before, after, strict=True))
    assert result.options.loss == losses
    for name in losses:
        assert result.log[-1][f"loss/{name}"] < 0.8 * result.log[0][f"loss/{name}"]
        assert isinstance(result.to_dict()["log"][0][f"loss/{name}"], float)
    total = sum(result.log[0][f"loss/{name}"] for name in losses)
    assert result.log[0]["loss"] == pytest.approx(total)


def test_losses_are_named_and_weighted_by_output() -> None:
    result = distil(
        Detector(6, 1), Detector(), epochs=1, loss="soft-targets:T=2@scores + 0.5*mse@boxes + logits@scores"
    )
    line = result.log[0]
    parts = [line[f"loss/{name}"] for name in ("soft-targets@scores", "mse@boxes", "logits@scores")]
    assert line["loss"] == pytest.approx(parts[0] + parts[1] / 2 + parts[2])
    everywhere = distil(Detector(6, 1), Detector(), epochs=1, loss="logits").log[0]
    assert {"loss/logits@boxes", "loss/logits@scores"} < set(everywhere)
    alone = distil(Detector(6, 1), Detector(), epochs=1, loss="soft-targets")
    assert "no loss is for boxes" in " ".join(alone.notes)


def test_a_student_may_call_its_outputs_otherwise_than_its_teacher() -> None:
    teacher = Detector(named=False)
    student = Detector(6, 1)
    before = gaps(student, teacher)
    result = distil(student, teacher, held_out=X[:32])
    assert all(b < 0.7 * a for a, b in zip(before, gaps(result.model, teacher), strict=True))
    figures = {name for name in result.log[0] if name.startswith("val/")}
    assert figures == {
        "val/output_mse", "val/output_mse@boxes", "val/agreement@scores", "val/kl@scores",
    }  # fmt: skip
    assert result.best == (4, result.log[4]["val/output_mse"])


def test_kept_outputs_are_those_of_the_teacher(tmp_path: Path) -> None:
    teacher = Detector()
    plain = distil(small(), teacher, out=tmp_path / "a", arch=f"{HERE}:small")
    kept = distil(small(), teacher, out=tmp_path / "b", arch=f"{HERE}:small", cache_teacher=True)
    assert np.load(tmp_path / "b" / "teacher.npy").shape == (96, 16 * 4 + 16 * 5)
    for name, value in weights(plain.model).items():
        torch.testing.assert_close(weights(kept.model)[name], value, rtol=1e-4, atol=1e-5)
    on = {"out": tmp_path / "b", "arch": f"{HERE}:small", "cache_teacher": True, "resume": True}
    (tmp_path / "b" / "checkpoints" / "last.pt").unlink()
    assert_same(weights(distil(small(), teacher, **on).model), weights(kept.model))


class First(PlainLoss):
    """Reads what losses of plugins read before there were names."""

    def __call__(self, step: Step) -> Tensor:
        assert step.teacher_output is not None
        return (step.student_output - step.teacher_output).square().mean()


def test_losses_of_plugins_see_the_main_output_or_the_one_that_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = registry()
    monkeypatch.setitem(known._kinds, "loss", {**known.items("loss"), "first": First})
    monkeypatch.setitem(known._owners, "loss", {**known._owners["loss"], "first": "plugin 'mine'"})
    teacher = Detector()
    for name, place in (("first", 0), ("first@scores", 1)):
        student = Detector(6, 1)
        before = gaps(student, teacher)
        after = gaps(distil(student, teacher, loss=name).model, teacher)
        assert after[place] < 0.7 * before[place]


class Tagger(nn.Module):
    """Scores of 7 classes for each token, which depend on all tokens that are no padding."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table, self.inner, self.head = (
            nn.Embedding(20, width),
            nn.Linear(width, width),
            nn.Linear(width, 7),
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.table(input_ids)
        kept = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mean = (x * kept[..., None]).sum(1, keepdim=True) / kept.sum(1)[:, None, None]
        return 6 * self.head(torch.relu(self.inner(x) + mean))


@pytest.mark.parametrize("loss", ["soft-targets", "cross-entropy", "dkd + logits", "mse"])
def test_a_sequence_is_learnt_and_padding_changes_nothing(loss: str) -> None:
    teacher = Tagger(16, 0).eval()
    ids = torch.randint(1, 20, (32, 6), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = teacher(ids).argmax(-1)
    mask = torch.cat([torch.ones(32, 6), torch.zeros(32, 4)], 1).long()
    padded = torch.cat([ids, torch.zeros(32, 4, dtype=torch.long)], 1)
    ignored = torch.cat([y, torch.full((32, 4), -100)], 1)
    plain = ({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, y)
    more = ({"input_ids": padded, "attention_mask": mask}, ignored)
    results = [
        distil(Tagger(8, 2), teacher, [batch], loss=loss, epochs=12, batch_size=32, held_out=[batch])
        for batch in (plain, more)
    ]
    for one, other in zip(results[0].log, results[1].log, strict=True):
        if one["epoch"]:
            assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert other["val/kl"] == pytest.approx(one["val/kl"], rel=1e-4)
    assert results[0].log[-1]["val/kl"] < 0.8 * results[0].log[0]["val/kl"]


def test_a_language_model_whose_labels_are_its_inputs_learns_the_next_token() -> None:
    ids = (torch.arange(8)[None] + torch.arange(32)[:, None]) % 7
    student = Tagger(8, 2)
    result = tsd.train(
        student,
        data=[({"input_ids": ids}, ids)],
        options={"epochs": 60, "lr": 0.05, "batch_size": 32, "device": "cpu"},
        held_out=[({"input_ids": ids}, ids)],
    )
    with torch.no_grad():
        found = result.model(ids).argmax(-1)
    assert torch.equal(found, (ids + 1) % 7)
    assert result.log[-1]["val/top1"] == 100


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ("no output 'box'", {"loss": "mse@box"}),
        ("reads no output", {"loss": "hints@boxes"}),
        ("given twice", {"loss": "mse + mse@boxes"}),
        ("no output 'box'", {"outputs": {"box": "values"}}),
        ("write NAME=classes", {"outputs": "boxes=box"}),
    ],
)
def test_what_does_not_fit_the_outputs_is_refused(words: str, more: dict[str, Any]) -> None:
    with pytest.raises(tsd.TsdistillError, match=words):
        distil(Detector(6, 1), Detector(), **more)


def test_classes_that_are_not_plain_have_to_be_said() -> None:
    pair = Detector(6, 1, named=False), Detector(named=False)
    with pytest.raises(tsd.TsdistillError, match="soft-targets@NAME"):
        distil(*pair, loss="soft-targets")
    said = distil(*pair, outputs={"1": "classes", "0": "unused"}, epochs=1)
    assert said.options.loss == {"soft-targets@1": 1.0}
    one = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    with pytest.raises(tsd.TsdistillError, match="classes"):
        distil(one, other, loss="soft-targets")
    assert distil(one, other, epochs=1).options.loss == {"mse": 1.0}


def test_one_output_taken_for_class_scores_is_said_and_values_are_taught_whole() -> None:
    torch.manual_seed(0)
    learner, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(192, 2)) for _ in range(2))
    with torch.no_grad():
        teacher[1].bias.add_(5)
    taken = distil(learner, teacher, epochs=1)
    assert any("outputs='output=values'" in note for note in taken.notes)
    said = distil(learner, teacher, outputs={"output": "values"}, epochs=40, lr=0.1, held_out=X)
    assert said.options.loss == {"mse": 1.0}
    assert said.log[-1]["val/output_mse"] < 0.1
    assert not any("output=values" in note for note in said.notes)


def test_the_best_epoch_of_one_of_several_outputs() -> None:
    said = {"boxes": "unused"}
    result = distil(Detector(6, 1), Detector(), outputs=said, held_out=X[:32], epochs=2)
    assert result.best is not None
    assert result.best[1] == result.log[result.best[0]]["val/agreement@scores"]


def test_without_a_teacher_values_are_learnt_from_labels_that_are_values() -> None:
    torch.manual_seed(0)
    x, wanted = torch.randn(128, 6), nn.Linear(6, 2)
    with torch.no_grad():
        y = wanted(x) + 4
    data = torch.utils.data.TensorDataset(x, y)
    how: dict[str, Any] = {"epochs": 20, "batch_size": 16, "lr": 0.2, "device": "cpu"}
    result = tsd.train(nn.Linear(6, 2), data=data, held_out=data, options=how)
    assert result.options.loss == {"mse:target=label": 1.0}
    assert result.log[-1]["val/mse"] < 0.05
    sure = torch.utils.data.TensorDataset(x, y.softmax(1))
    assert tsd.train(nn.Linear(6, 2), data=sure, options={"epochs": 1, "device": "cpu"}).options.loss == {
        "cross-entropy": 1
    }
    with pytest.raises(tsd.TsdistillError, match="do not sum to 1"):
        tsd.train(nn.Linear(6, 2), data=data, options={"epochs": 1, "device": "cpu", "loss": "cross-entropy"})


def test_labels_of_several_outputs_are_a_mapping() -> None:
    teacher = Detector().eval()
    with torch.no_grad():
        made = teacher(X)
    y = {"boxes": made["boxes"], "scores": made["scores"].argmax(-1)}
    batches = [
        (X[part], {name: each[part] for name, each in y.items()}) for part in torch.arange(96).split(16)
    ]
    result = tsd.train(
        Detector(6, 1), data=batches, options={"epochs": 4, "batch_size": 16, "lr": 0.02, "device": "cpu"}
    )
    assert result.options.loss == {"mse:target=label@boxes": 1.0, "cross-entropy@scores": 1.0}
    for name in ("mse@boxes", "cross-entropy@scores"):
        assert result.log[-1][f"loss/{name}"] < 0.8 * result.log[0][f"loss/{name}"]
    other = [(X[:16], {"classes": y["scores"][:16]})]
    with pytest.raises(tsd.TsdistillError, match="name none of the outputs"):
        tsd.train(Detector(6, 1), data=other, options={"epochs": 1, "batch_size": 16, "device": "cpu"})


def test_labels_of_positions_are_neither_mixed_nor_smoothed_unseen() -> None:
    data = torch.utils.data.TensorDataset(X, torch.randint(4, (96, 8, 8)))
    model = nn.Conv2d(3, 4, 1)
    wrong: list[dict[str, Any]] = [{"mixup": 0.2}, {"label_smoothing": 0.1}]
    for more in wrong:
        with pytest.raises(tsd.TsdistillError, match="for each sample"):
            tsd.train(model, data=data, options={"epochs": 1, "batch_size": 32, "device": "cpu", **more})
    y = data.tensors[1].clone()
    y[:, :4] = 255
    voided = torch.utils.data.TensorDataset(X, y)
    with pytest.raises(tsd.TsdistillError, match="a label is 255"):
        tsd.train(model, data=voided, options={"epochs": 1, "batch_size": 32, "device": "cpu"})
    assert (
        tsd.train(
            model, data=voided, options={"epochs": 1, "batch_size": 32, "device": "cpu", "ignore_index": 255}
        ).updates
        == 3
    )


class Heads(nn.Module):
    """Scores and, in a mapping, further outputs of these widths."""

    def __init__(self, **widths: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(6, width) for name, width in widths.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: head(x) for name, head in self.heads.items()}


@pytest.mark.parametrize("further", [{}, {"boxes": 3}])
def test_outputs_that_cannot_be_taught_are_not_judged_either(further: dict[str, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(32, 6)
    student, teacher = Heads(scores=4, boxes=2), Heads(scores=4, **further)
    result = distil(student, teacher, x, held_out=x, epochs=1)
    figures = {name for name in result.log[0] if name.startswith("val/")}
    assert figures == {"val/agreement@scores", "val/kl@scores"}
    assert any(note.startswith("the output boxes is not taught") for note in result.notes)
    assert "agreement" in epoch_line(result.log[0], 1)
    assert "KL" in epoch_line(result.log[1], 1)


def test_labels_of_outputs_that_hold_no_classes_are_not_offered_as_classes() -> None:
    data = TensorDataset(torch.randn(32, 6), torch.randint(0, 2, (32,)))
    result = distil(nn.Linear(6, 1), nn.Linear(6, 1), data, epochs=1)
    assert not any("cross-entropy" in note for note in result.notes)


def test_samples_whose_labels_are_all_ignored_count_for_nothing() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(8, 5, 6), torch.randint(0, 4, (8, 5))
    y[3] = -100
    kept = [place for place in range(8) if place != 3]
    model, data = nn.Linear(6, 4), TensorDataset(x, y)
    how: dict[str, Any] = {"loss": "cross-entropy", "batch_size": 1, "epochs": 1, "lr": 1e-12}
    result = distil(model, nn.Linear(6, 4), data, held_out=data, **how)
    with torch.no_grad():
        scores = model(x)
    error = nn.functional.cross_entropy(scores[kept].flatten(0, 1), y[kept].flatten())
    assert result.log[-1]["loss"] == pytest.approx(float(error) * 7 / 8)
    right = (scores.argmax(-1) == y)[kept].double().mean()
    assert result.log[0]["val/top1"] == pytest.approx(100 * float(right))


class Tokens(nn.Module):
    """Scores of tokens, from a forward with two arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(11, 6), nn.Linear(6, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.embed(input_ids) * attention_mask[..., None])


def test_padding_among_positional_arguments_teaches_nothing() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([7, 2, 5, 1, 3, 6])
    ids, mask = torch.randint(11, (6, 7)), (torch.arange(7) < lengths[:, None]).long()
    student, teacher, labels = Tokens(), Tokens(), torch.full((6, 7), 3)
    named = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    data: list[Any] = [[((ids, mask), labels)], [named]]
    logs = [distil(copy.deepcopy(student), teacher, given, epochs=2).log for given in data]
    assert [line["loss"] for line in logs[0]] == [line["loss"] for line in logs[1]]
