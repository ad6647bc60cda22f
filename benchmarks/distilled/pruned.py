"""A pruned ResNet-20 trained for a few epochs: ours against Torch-Pruning with plain KD and torchdistill's.

Every way has the same teacher, budget of operations, images, batches, optimizer, rate and schedule, and
images as they are: in so few epochs shifts and flips only lead a student away from what its teacher knows
(ours without labels after an epoch at 0.3: 92.46 % with them, 92.62 % without). Torch-Pruning's network is
cut by the criterion that keeps most accuracy without training. FitNets' recipe follows torchdistill's sample:
a stage of hints through a regressor, here a fifth of the updates, and then Hinton's distillation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fashion
import torch
from pruned import cases, peer
from pruned.cells import Cells, fingerprint
from torch import Tensor, nn
from torch.nn import functional

import tsdistill as tsd

BATCH, RATE, TEMPERATURE, ALPHA = 128, 0.05, 4.0, 0.5
HINTED, STAGE = 0.2, "8"
"""Part of the updates that go to hints, and the block whose output they compare."""

RECORD = Path(__file__).parents[1] / "distilling.jsonl"
NETWORKS = Path(__file__).parents[1] / ".cache" / "distilled"

CRITERIA = ("l2", "taylor", "fpgm")


@dataclass(frozen=True)
class Cut:
    """A pruned network before it is trained."""

    kind: str
    budget: float
    model: nn.Module


@dataclass(frozen=True)
class Lessons:
    """What every way learns from: images, labels and a teacher."""

    x: Tensor
    y: Tensor
    teacher: nn.Module

    @cached_property
    def outputs(self) -> Tensor:
        """What the teacher says of each image."""
        with torch.no_grad():
            return torch.cat([self.teacher(some) for some in self.x.split(500)])


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``loss(numbers of the images, student's outputs, labels)``."""


def batches(images: int, seed: int) -> Iterator[Tensor]:
    """Numbers of the images of each batch of an epoch."""
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    return (index for index in order.split(BATCH) if len(index) == BATCH)


def by_loss(
    student: nn.Module, lessons: Lessons, loss: Loss, steps: int, extra: tuple[nn.Parameter, ...] = ()
) -> None:
    """SGD with Nesterov momentum and a cosine."""
    optimizer = torch.optim.SGD(
        [*student.parameters(), *extra], lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    student.train()
    made = 0
    while made < steps:
        for index in batches(len(lessons.x), made):
            value = loss(index, student(lessons.x[index]), lessons.y[index])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            made += 1
            if made == steps:
                break


def plain(student: nn.Module, lessons: Lessons, epochs: int) -> None:
    """Hinton's soft targets and nothing else."""
    square = TEMPERATURE**2

    def loss(index: Tensor, mine: Tensor, _: Tensor) -> Tensor:
        mine, theirs = ((each / TEMPERATURE).log_softmax(1) for each in (mine, lessons.outputs[index]))
        return square * functional.kl_div(mine, theirs, reduction="batchmean", log_target=True)

    by_loss(student, lessons, loss, _steps(lessons, epochs))


def torchdistill_kd(student: nn.Module, lessons: Lessons, epochs: int, steps: int | None = None) -> None:
    """torchdistill's ``KDLoss`` with labels, weighted as its samples have it."""
    from torchdistill.losses.mid_level import KDLoss

    criterion = KDLoss("all", "output", "all", "output", TEMPERATURE, alpha=ALPHA)

    def loss(index: Tensor, mine: Tensor, labels: Tensor) -> Tensor:
        return criterion({"all": {"output": mine}}, {"all": {"output": lessons.outputs[index]}}, labels)

    by_loss(student, lessons, loss, steps or _steps(lessons, epochs))


def torchdistill_fitnet(student: nn.Module, lessons: Lessons, epochs: int) -> None:
    """Hints at one block through a 1x1 convolution first, then ``KDLoss``."""
    kept: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(STAGE).register_forward_hook(
            lambda _, __, output, who=who: kept.__setitem__(who, output)
        )
        for who, model in (("mine", student), ("theirs", lessons.teacher))
    ]
    with torch.no_grad():
        student(lessons.x[:2])
        lessons.teacher(lessons.x[:2])
    regressor = nn.Conv2d(kept["mine"].shape[1], kept["theirs"].shape[1], 1)

    def loss(index: Tensor, _: Tensor, __: Tensor) -> Tensor:
        with torch.no_grad():
            lessons.teacher(lessons.x[index])
        return functional.mse_loss(regressor(kept["mine"]), kept["theirs"])

    total = _steps(lessons, epochs)
    hinted = max(1, int(HINTED * total))
    by_loss(student, lessons, loss, hinted, tuple(regressor.parameters()))
    for hook in hooks:
        hook.remove()
    torchdistill_kd(student, lessons, epochs, steps=max(1, total - hinted))


def ours(student: nn.Module, lessons: Lessons, epochs: int) -> None:
    """Soft targets, labels and node alignment through ``tsdistill.distill``."""
    tsd.distill(
        student,
        lessons.teacher,
        data=torch.utils.data.TensorDataset(lessons.x, lessons.y),
        options={
            "epochs": epochs,
            "batch_size": BATCH,
            "loss": f"{1 - ALPHA}*soft-targets:T={TEMPERATURE:g} + {ALPHA}*cross-entropy"
            " + 0.25*node-alignment",
            "optimizer": "sgd",
            "lr": RATE,
            "weight_decay": 5e-4,
            "device": "cpu",
            "track": False,
        },
    )


def _steps(lessons: Lessons, epochs: int) -> int:
    return epochs * (len(lessons.x) // BATCH)


WAYS = {
    "ours: re-aligned; soft targets, labels, node alignment": ("ours", ours),
    "Torch-Pruning, plain KD": ("peer", plain),
    "Torch-Pruning, torchdistill KD": ("peer", torchdistill_kd),
    "Torch-Pruning, torchdistill FitNet": ("peer", torchdistill_fitnet),
}


class Kept:
    """What a benchmark has made, in the folder of cells: networks that were cut, and what became of them.

    Args:
        case: the teacher and the images.
        images: training images an epoch.
        calibration: images that the networks are cut on.
        fresh: whether trained networks are trained anew.
    """

    def __init__(self, case: cases.Case, images: int, calibration: int, fresh: bool = False) -> None:
        self._case, self._images, self._calibration = case, images, calibration
        self._cells = Cells(RECORD, NETWORKS, ("distilled",) if fresh else ())
        self._weights = fingerprint(case.dense)

    def cut(self, kind: str, budget: float) -> Cut:
        """The re-aligned network of a budget, or the best of Torch-Pruning's."""
        key = self._key("distilled-cut", kind, budget)
        model = self._cells.model(key)
        if model is None or self._cells.get(key) is None:
            make = _best_of_peer if kind == "peer" else _ours_cut
            model = make(self._case, budget, self._calibration)
            self._cells.put(key, {"score": self._case.score(model)}, model)
        return Cut(kind, budget, model)

    def score(self, title: str, cut: Cut, epochs: int) -> float:
        """Accuracy of a cut network after training in one of the `WAYS`; the network as cut for no epochs."""
        key = self._key("distilled", title, cut.budget, epochs=epochs, images=self._images, rate=RATE)
        found = self._cells.get(key)
        if found is None:
            torch.manual_seed(0)
            student = cut.model
            for parameter in student.parameters():
                parameter.requires_grad_(True)
            if epochs:
                WAYS[title][1](student, self._lessons, epochs)
            found = {"score": self._case.score(student.eval())}
            self._cells.put(key, found)
        return float(found["score"])

    @cached_property
    def _lessons(self) -> Lessons:
        x, y = (each[: self._images] for each in fashion.images("train"))
        return Lessons(x, y, copy.deepcopy(self._case.dense).eval())

    def _key(self, kind: str, row: str, budget: float, **more: float) -> dict[str, Any]:
        fixed = {"network": self._case.name, "weights": self._weights, "calibration": self._calibration}
        return {**fixed, "kind": kind, "row": row, "budget": budget, **more}


def _ours_cut(case: cases.Case, budget: float, calibration: int) -> nn.Module:
    x, _ = case.calibration(0, calibration)
    return tsd.prune(copy.deepcopy(case.dense), macs=budget, data=x, seed=0)


def _best_of_peer(case: cases.Case, budget: float, calibration: int) -> nn.Module:
    x, y = case.calibration(0, calibration)
    walks = (peer.walk(case.dense, criterion, "local", [budget], x, y, 0) for criterion in CRITERIA)
    return max((model for walk in walks for _, model in walk), key=case.score)


def measure(
    budgets: list[float], epochs: list[int], images: int | None, calibration: int, fresh: bool = False
) -> list[str]:
    """The table's lines; says each cell as soon as it is there. Cells that are there are not made again."""
    case = cases.Case("resnet20")
    images = images or len(fashion.images("train")[0])
    kept = Kept(case, images, calibration, fresh)
    lines = [
        f"teacher {case.score(case.dense):.2f}; {images} training images an epoch; {case.figure}",
        "| MACs kept | way | as cut | " + " | ".join(f"{n} epochs" for n in epochs) + " |",
        "|---|---|---|" + "---|" * len(epochs),
    ]
    for budget in budgets:
        for title, (kind, _) in WAYS.items():
            cells = []
            for number in (0, *epochs):
                cells.append(kept.score(title, kept.cut(kind, budget), number))
                print(f"{budget} {title} {number} epochs: {cells[-1]:.2f}", flush=True)
            lines.append(f"| {budget} | {title} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return lines
