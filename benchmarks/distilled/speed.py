"""Samples a second of the same distillation step: a loop written by hand, ours, and ours with kept outputs.

The processor time of one thread is measured, step by step, so that what else runs on the machine counts
little; what is done once an epoch (checkpoint, model file) is not in it. Ways take turns.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median

import fashion
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import tsdistill as tsd
from tsdistill.distillation.students import student_of
from tsdistill.evaluation.model_cost import macs

BATCH, TEMPERATURE, RATE = 64, 4.0, 0.02
ARCH = str(Path(__file__).parents[1] / "networks.py") + ":resnet20"


def by_hand(student: nn.Module, teacher: nn.Module, x: Tensor, steps: int) -> None:
    """The loop that everybody writes: soft targets at a temperature, SGD with momentum, cosine, no frills."""
    loader = DataLoader(TensorDataset(x), batch_size=BATCH, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(student.parameters(), lr=RATE, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    student.train()
    teacher.eval()
    made = 0
    while made < steps:
        for (some,) in loader:
            with torch.no_grad():
                wanted = teacher(some)
            output = student(some)
            loss = TEMPERATURE**2 * functional.kl_div(
                (output / TEMPERATURE).log_softmax(1),
                (wanted / TEMPERATURE).log_softmax(1),
                reduction="batchmean",
                log_target=True,
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            made += 1
            if made == steps:
                break


def ours(student: nn.Module, teacher: nn.Module, x: Tensor, steps: int, **more: object) -> None:
    """The same through ``tsdistill.distill``."""
    with tempfile.TemporaryDirectory() as folder:
        tsd.distill(
            student,
            teacher,
            data=x,
            out=Path(folder) / "run",
            arch=ARCH,
            options={
                "epochs": 9,
                "steps": steps,
                "batch_size": BATCH,
                "loss": f"soft-targets:T={TEMPERATURE:g}",
                "optimizer": "sgd",
                "lr": RATE,
                "weight_decay": 0.0,
                "device": "cpu",
                "track": False,
                **more,
            },
        )


def measure(images: int, rounds: int, width: float) -> list[str]:
    """The table's lines; every run has two epochs, and the steps of the second one count."""
    torch.set_num_threads(1)
    teacher = fashion.trained("resnet20").eval()
    x = fashion.images("train")[0][:images].contiguous()
    slim = student_of(teacher, width, example=x[:1]).model
    size = macs(slim, x[:1]) / macs(teacher, x[:1])
    steps = images // BATCH
    ways: dict[str, Callable[[nn.Module], None]] = {
        "by hand": lambda student: by_hand(student, teacher, x, 2 * steps),
        "ours": lambda student: ours(student, teacher, x, 2 * steps),
        "ours, --cache-teacher": lambda student: ours(student, teacher, x, 2 * steps, cache_teacher=True),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            spent[name] += _steps(way, slim)[steps:]
    hand = spent["by hand"]
    lines = [
        f"student {width:g} times as wide, {size:.2f} of the teacher's MACs; {len(hand)} steps of {BATCH}",
        "| way | median ms a step | samples a second | over by hand: medians | over by hand: fastest tenth |",
        "|---|---|---|---|---|",
    ]
    for name, found in spent.items():
        figures = [1000 * median(found), BATCH / median(found), median(hand) / median(found)]
        fastest = _fastest(hand) / _fastest(found)
        lines.append("| {} | {:.0f} | {:.0f} | {:.3f} | {:.3f} |".format(name, *figures, fastest))
    return lines


def _steps(way: Callable[[nn.Module], None], student: nn.Module) -> list[float]:
    """Seconds of processor time from each training forward of the student to the next."""
    fresh, stamps = copy.deepcopy(student), list[float]()

    def stamp(module: nn.Module, _: object) -> None:
        if module.training:
            stamps.append(time.process_time())

    hook = fresh.register_forward_pre_hook(stamp)
    way(fresh)
    hook.remove()
    return [after - before for before, after in pairwise(stamps)]


def _fastest(found: list[float]) -> float:
    """The mean of the fastest tenth."""
    best = sorted(found)[: max(1, len(found) // 10)]
    return sum(best) / len(best)
