"""Input that cannot be trained on is refused in one line that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

import tsdistill as tsd
from tests.distillation.small import digits, grouped, network
from tsdistill.distillation.losses import PlainLoss, Step
from tsdistill.plugins.manager import registry

X, Y = digits().tensors


def train(model: nn.Module | None = None, data: Any = None, **more: Any) -> tsd.TrainResult:
    return tsd.train(
        model or network(8), data=data or digits(), **grouped(**{"epochs": 1, "batch_size": 256, **more})
    )


def refused(words: str, *arguments: Any, **more: Any) -> None:
    with pytest.raises(tsd.TsdistillError, match=words) as caught:
        train(*arguments, **more)
    assert "\n" not in str(caught.value)


def test_classes_that_differ() -> None:
    with pytest.raises(tsd.TsdistillError, match=r"\b10 .*\b7\b"):
        tsd.distill(network(8), network(8, classes=7), data=digits(), options={"epochs": 1})
    model = network(8)
    with pytest.raises(tsd.TsdistillError, match="one object"):
        tsd.distill(model, model, data=digits())


def test_labels() -> None:
    refused(r"a label is 9 \(sample \d+\) but the model has 9 classes, 0 to 8", network(8, classes=9))
    refused("a label is -1", data=TensorDataset(X[:300], Y[:300] - 1))
    refused("need.* labels", data=TensorDataset(X[:300]))
    arrays = type("Late", (torch.utils.data.Dataset,), {
        "__len__": lambda self: 300, "__getitem__": lambda self, n: (X[n], 3)})()  # fmt: skip
    refused("every label of .* is 3", data=arrays)
    one = TensorDataset(X[:300], torch.full((300,), 4))
    refused("every label of .* is 4", data=one)


def test_one_class_is_known_before_training(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", x=X[:300].numpy(), y=np.zeros(300, dtype=int))
    model = network(8)
    from tsdistill.models import InputSpec, ModelInfo, attach

    attach(model, ModelInfo(input=InputSpec((64,))))
    seen: list[Any] = []
    refused("every label of .* is 0", model, data=str(tmp_path / "one.npz"), report=seen.append)
    assert not seen


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ("there is no training option 'epoch'; did you mean epochs", {"epoch": 3}),
        ("epochs must be at least 1", {"epochs": 0}),
        ("lr must be above 0", {"lr": -1.0}),
        ("lr takes a number", {"lr": "fast"}),
        ("amp is one of no, bf16, fp16", {"amp": "int8"}),
        ("amp fp16", {"amp": "fp16", "device": "cpu"}),
        ("no optimizer 'adamm'; did you mean adam", {"optimizer": "adamm"}),
        ("no schedule|schedule 'cosin'", {"sched": "cosin"}),
        ("no device 'nowhere'|device", {"device": "nowhere"}),
        ("unknown loss 'soft-target'", {"loss": "soft-target"}),
        ("unknown augmentation", {"augment": "stendard"}),
        ("the loss soft-targets needs a teacher", {"loss": "soft-targets"}),
        ("the tracker 'wundb' is not there", {"tracker": "wundb"}),
        ("a training transform is for pictures", {"transform": {}}),
    ],
)
def test_options(words: str, more: dict[str, Any]) -> None:
    refused(words, **more)


class Wide(PlainLoss):
    needs_teacher = False

    def __call__(self, step: Step) -> torch.Tensor:
        return step.student_output.mean(1)


def test_plugins_that_return_the_wrong_shape_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    known = registry()
    for kind, name, thing in (("loss", "wide", Wide), ("augmentation", "halving", lambda x, g: x[::2])):
        found = known.items(kind)
        monkeypatch.setitem(known._kinds, kind, {**found, name: thing})
        monkeypatch.setitem(known._owners, kind, {**known._owners[kind], name: "plugin 'mine'"})
    refused(r"the loss wide \(plugin 'mine'\) returns a tensor of shape \(256,\)", loss="wide")
    refused("the augmentation .*a batch of shape|the augmentation", augment="halving")


def _images(folder: Path) -> Path:
    for number in range(60):
        place = folder / "pictures" / str(number % 2)
        place.mkdir(parents=True, exist_ok=True)
        shade = np.full((8, 8), 100 * (number % 2) + number, dtype=np.uint8)
        Image.fromarray(shade).save(place / f"{number}.png")
    for number in (3, 8):
        next((folder / "pictures").rglob(f"{number}.png")).write_bytes(b"no picture")
    return folder / "pictures"


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_that_cannot_be_read_are_left_out_and_counted(tmp_path: Path, workers: int) -> None:
    from tsdistill.models import InputSpec, ModelInfo, attach

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    attach(model, ModelInfo(input=InputSpec((1, 8, 8))))
    data = str(_images(tmp_path))
    result = train(model, data, epochs=2, batch_size=20, workers=workers)
    assert result.skipped == 4
    assert [line["skipped"] for line in result.log] == [2, 2]
    assert "cannot be read" in result.log[0]["first_skipped"]
    assert result.log[0]["samples"] == 58
    refused("the image .*(3|8).png cannot be read", model, data, batch_size=20, workers=workers, strict=True)


def test_held_out_pictures_that_cannot_be_read_are_named_or_refused(tmp_path: Path) -> None:
    from tsdistill.models import InputSpec, ModelInfo, attach

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    attach(model, ModelInfo(input=InputSpec((1, 8, 8))))
    held_out = str(_images(tmp_path))
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "sound.npz", x=rng.random((60, 1, 8, 8), dtype=np.float32), y=np.arange(60) % 2)
    data = str(tmp_path / "sound.npz")
    result = train(model, data, held_out=held_out, batch_size=20)
    (note,) = [note for note in result.notes if note.startswith("held-out data: 2 of 60 samples")]
    assert ".png" in note
    refused("the image .*(3|8).png cannot be read", model, data, held_out=held_out, strict=True)


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    from tsdistill.models import InputSpec, ModelInfo, attach

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    attach(model, ModelInfo(input=InputSpec((1, 8, 8))))
    data = _images(tmp_path)
    for path in data.rglob("*.png"):
        path.write_bytes(b"none")
    refused("nothing of .* can be read", model, str(data), batch_size=20)


class Broken(nn.Module):
    """A teacher whose scores of class 0 are ``value`` where the first input is above ``above``."""

    def __init__(self, value: float, above: float) -> None:
        super().__init__()
        self.model, self.value, self.above = network(8), value, above

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.model(x)
        broken = (x[:, 0] > self.above)[:, None] & (torch.arange(10) == 0)
        return torch.where(broken, self.value, y)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_teacher_that_is_not_finite_is_named(value: float) -> None:
    clean = torch.zeros(64, 64)
    late = [(clean, None), (clean + 1, None)]
    for data, words in (
        (X[:64], "^the teacher gives "),
        (late, "^the teacher gives .* at batch 2 of epoch 1"),
    ):
        above = 0.5 if data is late else -1.0
        with pytest.raises(tsd.TsdistillError, match=words) as caught:
            tsd.distill(
                network(8),
                Broken(value, above),
                data=data,
                options={"epochs": 1, "track": False, "device": "cpu"},
            )
        assert "--lr" not in str(caught.value)


class EvaluationOnly(nn.Module):
    """Refuses to run in train mode, as detectors do without targets; or gives its output another name."""

    def __init__(self, renames: bool) -> None:
        super().__init__()
        self.model, self.renames = network(8), renames

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.model(x)
        if self.training and not self.renames:
            raise AssertionError("targets should not be none\nwhen in training mode")
        return {"aux": y, "scores" if self.training else "logits": y}


@pytest.mark.parametrize(("student", "samples", "words"), [
    (EvaluationOnly(False), 64, "student's forward fails in train mode .* targets should not be none"),
    (network(8), 1, "student's forward fails in train mode .* more than 1 value per channel"),
    (EvaluationOnly(True), 64, "gives no output logits in train mode"),
])  # fmt: skip
def test_a_student_that_fails_in_train_mode(student: nn.Module, samples: int, words: str) -> None:
    with pytest.raises(tsd.TsdistillError, match=words) as caught:
        tsd.distill(
            student, network(8), data=X[:samples], options={"epochs": 1, "track": False, "device": "cpu"}
        )
    assert "\n" not in str(caught.value)


class Detector(nn.Module):
    """A network that returns one entry per sample in evaluation mode; in training mode what ``kind`` says."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.norm, self.layer = nn.BatchNorm1d(X[0].numel()), nn.Linear(X[0].numel(), 4)

    def forward(self, x: torch.Tensor) -> Any:
        boxes = self.layer(self.norm(x.flatten(1)))
        if self.training and self.kind == "raises":
            raise ValueError("targets should not be none when in training mode")
        if self.kind == "tensor":
            return boxes.sum(1) if self.training else boxes
        return (
            {"loss": boxes.sum()} if self.training and self.kind == "loss" else [{"boxes": b} for b in boxes]
        )


@pytest.mark.parametrize("kind", ["boxes", "loss", "raises", "tensor"])
@pytest.mark.parametrize("labels", [False, True])
def test_outputs_that_no_loss_compares_are_refused_before_anything_is_trained_or_written(
    kind: str, labels: bool, tmp_path: Path
) -> None:
    lines: list[Any] = []
    student = Detector(kind)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    more: dict[str, Any] = {"data": digits(), "out": tmp_path / "run", "report": lines.append}
    teacher: dict[str, Any] = {} if labels else {"teacher": Detector(kind)}
    with pytest.raises(tsd.TsdistillError) as caught:
        (tsd.train if labels else tsd.distill)(
            student, **teacher, options={"epochs": 1}, held_out=digits(), **more
        )
    assert "\n" not in str(caught.value)
    assert lines == []
    assert not (tmp_path / "run").exists()
    assert all(value.equal(before[name]) for name, value in student.state_dict().items())
