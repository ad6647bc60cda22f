"""A pruned ResNet-20 trained for a few epochs: ours against Torch-Pruning with plain KD and torchdistill's.

Every way has the same teacher, budget of operations, images, augmentation (``standard``), batches, optimizer
and schedule. Torch-Pruning's network is cut by the criterion that keeps most accuracy without training.
FitNets' recipe follows torchdistill's sample: a stage of hints through a regressor, here a fifth of the
updates, and then Hinton's distillation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import fashion
import torch
from pruned import cases, peer
from torch import Tensor, nn
from torch.nn import functional

import tsdistill as tsd
from tsdistill.augmentation.strategies import standard

BATCH, RATE, TEMPERATURE, ALPHA = 128, 0.05, 4.0, 0.5
HINTED, STAGE = 0.2, "8"
"""Part of the updates that go to hints, and the block whose output they compare."""

CRITERIA = ("l2", "taylor", "fpgm")


@dataclass(frozen=True)
class Cut:
    """A pruned network before it is trained."""

    kind: str
    budget: float
    model: nn.Module


def batches(x: Tensor, y: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch, augmented as ours is."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator)
    for index in order.split(BATCH):
        if len(index) == BATCH:
            yield standard(x[index], generator), y[index]


def by_loss(
    student: nn.Module,
    teacher: nn.Module,
    loss: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    epochs: int,
    x: Tensor,
    y: Tensor,
    extra: tuple[nn.Parameter, ...] = (),
    steps: int | None = None,
) -> None:
    """SGD with Nesterov momentum and a cosine on ``loss(x, student's, teacher's outputs, labels)``."""
    total = steps or epochs * (len(x) // BATCH)
    optimizer = torch.optim.SGD(
        [*student.parameters(), *extra], lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    student.train()
    made = 0
    while made < total:
        for some, labels in batches(x, y, made):
            with torch.no_grad():
                wanted = teacher(some)
            value = loss(some, student(some), wanted, labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            made += 1
            if made == total:
                break


def plain(student: nn.Module, teacher: nn.Module, epochs: int, x: Tensor, y: Tensor) -> None:
    """Hinton's soft targets and nothing else."""
    square = TEMPERATURE**2

    def loss(_: Tensor, mine: Tensor, theirs: Tensor, __: Tensor) -> Tensor:
        mine, theirs = ((each / TEMPERATURE).log_softmax(1) for each in (mine, theirs))
        return square * functional.kl_div(mine, theirs, reduction="batchmean", log_target=True)

    by_loss(student, teacher, loss, epochs, x, y)


def torchdistill_kd(
    student: nn.Module, teacher: nn.Module, epochs: int, x: Tensor, y: Tensor, steps: int | None = None
) -> None:
    """torchdistill's ``KDLoss`` with labels, weighted as its samples have it."""
    from torchdistill.losses.mid_level import KDLoss

    criterion = KDLoss("all", "output", "all", "output", TEMPERATURE, alpha=ALPHA)

    def loss(_: Tensor, mine: Tensor, theirs: Tensor, labels: Tensor) -> Tensor:
        return criterion({"all": {"output": mine}}, {"all": {"output": theirs}}, labels)

    by_loss(student, teacher, loss, epochs, x, y, steps=steps)


def torchdistill_fitnet(student: nn.Module, teacher: nn.Module, epochs: int, x: Tensor, y: Tensor) -> None:
    """Hints at one block through a 1x1 convolution first, then ``KDLoss``."""
    kept: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(STAGE).register_forward_hook(
            lambda _, __, output, who=who: kept.__setitem__(who, output)
        )
        for who, model in (("mine", student), ("theirs", teacher))
    ]
    with torch.no_grad():
        student(x[:2])
        teacher(x[:2])
    regressor = nn.Conv2d(kept["mine"].shape[1], kept["theirs"].shape[1], 1)

    def loss(_: Tensor, __: Tensor, ___: Tensor, ____: Tensor) -> Tensor:
        return functional.mse_loss(regressor(kept["mine"]), kept["theirs"])

    total = epochs * (len(x) // BATCH)
    hinted = max(1, int(HINTED * total))
    by_loss(student, teacher, loss, epochs, x, y, tuple(regressor.parameters()), hinted)
    for hook in hooks:
        hook.remove()
    torchdistill_kd(student, teacher, epochs, x, y, steps=max(1, total - hinted))


def ours(student: nn.Module, teacher: nn.Module, epochs: int, x: Tensor, y: Tensor) -> None:
    """Soft targets and node alignment through ``tsdistill.distill``."""
    tsd.distill(
        student,
        teacher,
        data=torch.utils.data.TensorDataset(x, y),
        epochs=epochs,
        batch_size=BATCH,
        loss=f"soft-targets:T={TEMPERATURE:g} + 0.5*node-alignment",
        optimizer="sgd",
        lr=RATE,
        weight_decay=5e-4,
        augment="standard",
        device="cpu",
        track=False,
    )


WAYS = {
    "ours: re-aligned, node alignment": ("ours", ours),
    "Torch-Pruning, plain KD": ("peer", plain),
    "Torch-Pruning, torchdistill KD": ("peer", torchdistill_kd),
    "Torch-Pruning, torchdistill FitNet": ("peer", torchdistill_fitnet),
}


def cuts(case: cases.Case, budgets: list[float], calibration: int) -> list[Cut]:
    """The re-aligned network of each budget, and the best of Torch-Pruning's."""
    x, y = case.calibration(0, calibration)
    found = []
    for budget in budgets:
        pruned = tsd.prune(copy.deepcopy(case.dense), macs=budget, data=x, seed=0)
        found.append(Cut("ours", budget, pruned))
    best: dict[float, tuple[float, nn.Module]] = {}
    for criterion in CRITERIA:
        for budget, model in peer.walk(case.dense, criterion, "local", budgets, x, y, 0):
            score = case.score(model)
            if budget not in best or score > best[budget][0]:
                best[budget] = (score, model)
    return found + [Cut("peer", budget, model) for budget, (_, model) in best.items()]


def measure(budgets: list[float], epochs: list[int], images: int | None, calibration: int) -> list[str]:
    """The table's lines; says each cell as soon as it is there."""
    case = cases.Case("resnet20")
    x, y = fashion.images("train")
    if images is not None:
        x, y = x[:images], y[:images]
    teacher = case.dense
    lines = [
        f"teacher {case.score(teacher):.2f}; {len(x)} training images an epoch; {case.figure}",
        "| MACs kept | way | as cut | " + " | ".join(f"{n} epochs" for n in epochs) + " |",
        "|---|---|---|" + "---|" * len(epochs),
    ]
    made = cuts(case, budgets, calibration)
    for budget in budgets:
        for title, (kind, way) in WAYS.items():
            cut = next(each for each in made if each.kind == kind and each.budget == budget)
            cells = [case.score(cut.model)]
            for number in epochs:
                torch.manual_seed(0)
                student = copy.deepcopy(cut.model)
                for parameter in student.parameters():
                    parameter.requires_grad_(True)
                way(student, copy.deepcopy(teacher), number, x, y)
                cells.append(case.score(student.eval()))
                print(f"{budget} {title} {number} epochs: {cells[-1]:.2f}", flush=True)
            lines.append(f"| {budget} | {title} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return lines
