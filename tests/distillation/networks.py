"""Digits, small networks and steps for the tests of losses, tracking and students."""

from __future__ import annotations

import copy
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from tests.alignment.small import randomise
from tsdistill.distillation.losses import Features, Loss, Step


@cache
def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's digits: ``[1797, 1, 8, 8]`` in [0, 1] and labels."""
    data = load_digits()
    return torch.from_numpy(data.images).float()[:, None] / 16, torch.from_numpy(data.target).long()


def batches(count: int = 4, size: int = 32) -> list[tuple[Tensor, Tensor]]:
    """The first batches of the digits."""
    x, y = digits()
    return list(zip(x[: count * size].split(size), y[: count * size].split(size), strict=True))


def convnet(*widths: int, seed: int = 0) -> nn.Sequential:
    """Convolutions with batch norm and ReLU, a mean over positions, ten classes; randomised."""
    layers: list[nn.Module] = []
    inputs = 1
    for width in widths:
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        inputs = width
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))
    randomise(model, seed)
    return model


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
