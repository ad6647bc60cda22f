"""A real training on scikit-learn's digits: an over-realised student learns from a teacher's outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

import tsdistill as tsd
from tsdistill.alignment import checkpoint_series
from tsdistill.errors import TsdistillError

EPOCHS = 11
STEPS = 60
TEACHER, STUDENT = 12, 60
NETWORKS = f"""
from torch import nn


def teacher():
    return nn.Sequential(nn.Linear(64, {TEACHER}), nn.ReLU(), nn.Linear({TEACHER}, 10))


def student():
    return nn.Sequential(nn.Linear(64, {STUDENT}), nn.ReLU(), nn.Linear({STUDENT}, 10))
"""


@dataclass(frozen=True)
class Trained:
    """A folder with ``networks.py``, ``teacher.pt``, ``data.npz`` and a checkpoint an epoch."""

    folder: Path
    checkpoints: list[Path]

    @property
    def student_arch(self) -> str:
        return f"{self.folder / 'networks.py'}:student"

    @property
    def loading(self) -> dict[str, Any]:
        arch = f"{self.folder / 'networks.py'}:teacher"
        return {"arch": self.student_arch, "teacher_arch": arch}

    def history(self, samples: int | None = None, **options: Any) -> tsd.AlignmentHistory:
        data = str(self.folder / "data.npz")
        teacher = self.folder / "teacher.pt"
        inputs = {"samples": samples, "input_size": (64,)}
        return tsd.analyze_training(self.checkpoints, teacher, data, inputs=inputs, **self.loading, **options)


def descend(model: nn.Module, rate: float, steps: int, loss: Callable[[], Tensor]) -> None:
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The teacher learns the labels; then the fan-out of its j-th node is made to fall as 1/j (the paper's
    p = 1) and a student five times as wide learns its outputs on noisy digits."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("training")
    (folder / "networks.py").write_text(NETWORKS)
    generator = torch.Generator().manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32)
    x, y = (x - x.mean()) / x.std(), torch.tensor(digits.target)

    def draw(size: int, noise: float) -> tuple[Tensor, Tensor]:
        index = torch.randint(len(x), (size,), generator=generator)
        return x[index] + noise * torch.randn(size, 64, generator=generator), y[index]

    def supervised() -> Tensor:
        samples, labels = draw(128, 0.3)
        return functional.cross_entropy(teacher(samples), labels)

    def from_the_teacher() -> Tensor:
        samples, _ = draw(128, 1.0)
        with torch.no_grad():
            wanted = teacher(samples)
        return 0.5 * (student(samples) - wanted).pow(2).sum(1).mean()

    torch.manual_seed(0)
    teacher = tsd.load(f"{folder / 'networks.py'}:teacher", inputs={"input_size": (64,)})
    descend(teacher, 1e-2, 150, supervised)
    with torch.no_grad():
        teacher[2].weight /= teacher[2].weight.norm(dim=0) * torch.arange(1, TEACHER + 1) / 3
    student = tsd.load(f"{folder / 'networks.py'}:student", inputs={"input_size": (64,)})
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(0.3)
    tsd.save(teacher, folder / "teacher.pt")
    np.savez(folder / "data.npz", x=draw(1500, 1.0)[0].numpy())
    checkpoints = []
    for epoch in range(EPOCHS):
        if epoch:
            descend(student, 1e-2, STEPS, from_the_teacher)
        checkpoints.append(folder / f"ckpt-{epoch}.pt")
        tsd.save(student, checkpoints[-1])
    return Trained(folder, checkpoints)


@pytest.fixture(scope="module")
def history(trained: Trained) -> tsd.AlignmentHistory:
    return trained.history()


def test_strong_teacher_nodes_are_learnt_first(history: tsd.AlignmentHistory) -> None:
    (group,) = history.groups
    assert group.best.shape == (EPOCHS, TEACHER)
    assert history.strong_first() > 0.6
    strong, middle, weak = history.thirds().T
    assert (strong[3:6] > weak[3:6] + 0.1).all()
    assert (middle[3:6] > weak[3:6]).all()
    assert strong[-1] > 0.95
    assert strong[0] < 0.6
    assert history.aligned[0] == 0
    assert history.aligned[-1] >= TEACHER // 3
    first = group.first_aligned()
    reached = np.where(first < 0, EPOCHS, first)
    by_third = [reached[nodes].mean() for nodes in group.by_strength()]
    assert by_third[0] < by_third[1] < by_third[2]


def test_every_checkpoint_is_what_analyze_says_of_it(trained: Trained, history: tsd.AlignmentHistory) -> None:
    how = trained.loading
    teacher = tsd.load(trained.folder / "teacher.pt", arch=how["teacher_arch"], inputs={"input_size": (64,)})
    for place in (0, 4, EPOCHS - 1):
        student = tsd.load(trained.checkpoints[place], arch=how["arch"], inputs={"input_size": (64,)})
        report = tsd.analyze(student, teacher, str(trained.folder / "data.npz"))
        np.testing.assert_allclose(history.groups[0].best[place], report.groups[0].teacher_best, atol=1e-6)
        assert history.aligned[place] == report.groups[0].teacher_aligned
    assert history.final.groups[0].teacher_strength.tolist() == report.groups[0].teacher_strength.tolist()


@pytest.mark.parametrize("metric", ["cosine", "gates", "weights"])
def test_metrics_of_every_kind(trained: Trained, metric: str) -> None:
    found = trained.history(analysis={"metric": [metric, "correlation"]}, samples=400)
    assert found.metric == found.final.metric == metric
    assert found.thirds()[0, 0] < found.thirds()[-1, 0]
    assert np.isfinite(found.groups[0].best).all()


def test_one_checkpoint_is_in_memory_beside_the_teacher(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[nn.Module]] = []
    alive: list[int] = []

    def load(*arguments: Any, **options: Any) -> nn.Module:
        alive.append(sum(ref() is not None for ref in loaded))
        model = tsd.load(*arguments, **options)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(checkpoint_series, "load", load)
    trained.history(samples=64)
    assert len(alive) == EPOCHS + 1
    assert max(alive) == 1


def test_the_architecture_of_the_last_is_tried_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def load(given: str, arch: str | None = None, **_: Any) -> nn.Module:
        asked.append((given, arch))
        if given == "other.pt" and arch is not None:
            raise TsdistillError("does not fit")
        return nn.Identity()

    monkeypatch.setattr(checkpoint_series, "load", load)
    checkpoint_series._load("alike.pt", "timm:x", {}, otherwise=None)
    checkpoint_series._load("other.pt", "timm:x", {}, otherwise=None)
    assert asked == [("alike.pt", "timm:x"), ("other.pt", "timm:x"), ("other.pt", None)]
    with pytest.raises(TsdistillError, match="does not fit"):
        checkpoint_series._load("other.pt", "timm:x", {}, otherwise="timm:x")


def test_without_a_teacher_the_last_checkpoint_is_it(trained: Trained) -> None:
    last = trained.checkpoints[-3:]
    models = [tsd.load(path, arch=trained.student_arch, inputs={"input_size": (64,)}) for path in last]
    found = tsd.analyze_training(models, data=str(trained.folder / "data.npz"), inputs={"samples": 300})
    assert found.names == ("checkpoint 1", "checkpoint 2", "checkpoint 3")
    alive = found.final.groups[0].teacher_strength > 0
    np.testing.assert_allclose(found.groups[0].best[-1][alive], 1, atol=1e-5)
    assert found.thirds()[0].mean() < 1
    assert any("the last checkpoint, checkpoint 3, is the teacher" in note for note in found.notes)


def test_progress_names_the_checkpoint(trained: Trained) -> None:
    told: list[tuple[str, int, int | None]] = []
    trained.history(samples=64, progress=lambda *what: told.append(what))
    assert told[0] == (f"ckpt-{EPOCHS - 1}.pt ({EPOCHS} of {EPOCHS}): reading", 0, None)
    last = [what for what in told if what[0].startswith("ckpt-0.pt (1 of ")]
    assert last[-1][1:] == (64, 64)


def test_other_groups_are_refused(trained: Trained) -> None:
    student = tsd.load(trained.checkpoints[-1], arch=trained.student_arch, inputs={"input_size": (64,)})
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 10))
    with pytest.raises(TsdistillError, match=r"checkpoint 1: .*group 0"):
        tsd.analyze_training([other, student], data=str(trained.folder / "data.npz"), inputs={"samples": 64})
    with pytest.raises(TsdistillError, match="checkpoint"):
        tsd.analyze_training([], data=torch.zeros(4, 64))


def command_line(trained: Trained, *arguments: str) -> subprocess.CompletedProcess[str]:
    names = sorted(path.name for path in trained.checkpoints)
    assert names.index("ckpt-10.pt") < names.index("ckpt-2.pt")
    given = ["--teacher", "teacher.pt", "--teacher-arch", "networks.py:teacher", "--data", "data.npz"]
    return subprocess.run(
        [
            *(sys.executable, "-m", "tsdistill", "analyze", *names),
            *("--arch", "networks.py:student", "--input-size", "64", *given, *arguments),
        ],
        cwd=trained.folder,
        env={**os.environ, "TSDISTILL_PLUGINS": "", "OMP_NUM_THREADS": "1", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_on_the_command_line(trained: Trained, history: tsd.AlignmentHistory) -> None:
    done = command_line(trained, "--json", "history.json")
    assert done.returncode == 0, done.stderr
    assert "tsdistill:" not in done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.split()[:1]]
    rows = [row for row in rows if row[0].startswith("ckpt-") and len(row) > 7]
    assert [row[0] for row in rows] == [f"ckpt-{epoch}.pt" for epoch in range(EPOCHS)]
    strong, weak = ([float(row[column]) for row in rows] for column in (1, 3))
    assert strong[3] > weak[3] + 0.1
    assert "11 checkpoints in this order: ckpt-0.pt, ckpt-1.pt, ckpt-2.pt" in done.stdout
    assert "Strong ones first: 0." in done.stdout
    written = json.loads((trained.folder / "history.json").read_text())
    assert written["names"] == list(history.names)
    np.testing.assert_allclose(written["thirds"]["strong"], history.thirds()[:, 0], atol=1e-6)
    assert written["final"]["kind"] == "alignment"
