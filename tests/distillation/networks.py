"""Batches, reordered networks and steps for the tests of losses, tracking and students."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tests.digits import digits
from tsdistill.distillation.losses import Features, Loss, Step


def batches(count: int = 4, size: int = 32) -> list[tuple[Tensor, Tensor]]:
    """The first batches of the digits."""
    x, y = digits()
    return list(zip(x[: count * size].split(size), y[: count * size].split(size), strict=True))


def shuffled(model: nn.Sequential, seed: int = 0) -> tuple[nn.Sequential, list[Tensor]]:
    """The same function with the nodes of every convolution in another order and of other positive scales,
    and by layer the order: node k there is node ``order[k]`` here."""
    generator = torch.Generator().manual_seed(seed)
    made = copy.deepcopy(model)
    layers = list(made)
    orders = []
    for place, layer in enumerate(layers):
        if not isinstance(layer, nn.Conv2d):
            continue
        norm = layers[place + 1]
        reader = next(one for one in layers[place + 2 :] if isinstance(one, nn.Conv2d | nn.Linear))
        order = torch.randperm(layer.out_channels, generator=generator)
        scale = 0.5 + 2 * torch.rand(layer.out_channels, generator=generator)
        layer.weight.data, layer.bias.data = layer.weight.data[order], layer.bias.data[order]
        norm.running_mean, norm.running_var = norm.running_mean[order], norm.running_var[order]
        norm.weight.data, norm.bias.data = norm.weight.data[order] * scale, norm.bias.data[order] * scale
        width = (1, -1, 1, 1) if isinstance(reader, nn.Conv2d) else (1, -1)
        reader.weight.data = reader.weight.data[:, order] / scale.view(width)
        orders.append(order)
    return made, orders


def step_of(
    loss: Loss, student: nn.Module, teacher: nn.Module | None, x: Tensor, y: Tensor | None = None
) -> Step:
    """Both forwards, with what the loss asks for."""
    mine = Features(student, loss.student_taps)
    output = None
    theirs = None
    if teacher is not None:
        theirs = Features(teacher, loss.teacher_taps, "teacher")
        with torch.no_grad(), theirs:
            output = teacher(x)
    with mine:
        out = student(x)
    return Step(x, y, out, output, student, teacher, 1.0, mine.seen, theirs.seen if theirs else {})


def generator(seed: int = 0) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def outputs(mine: Tensor, theirs: Tensor | None = None, y: Tensor | None = None, epoch: float = 1.0) -> Step:
    """A step of outputs alone."""
    return Step(torch.zeros(len(mine), 1), y, mine, theirs, nn.Identity(), None, epoch)


X = torch.randn(96, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Detector(nn.Module):
    """Boxes ``[N, 16, 4]`` and scores ``[N, 16, 5]`` of the places of a picture."""

    def __init__(self, width: int = 12, seed: int = 0, named: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.ReLU())
        self.boxes, self.scores = nn.Conv2d(width, 4, 1), nn.Conv2d(width, 5, 1)
        self.named = named

    def forward(self, x: Tensor) -> Any:
        y = self.body(x)
        boxes, scores = (head(y).flatten(2).transpose(1, 2) for head in (self.boxes, self.scores))
        return {"boxes": 3 * boxes + 7, "scores": 5 * scores} if self.named else (3 * boxes + 7, 5 * scores)
