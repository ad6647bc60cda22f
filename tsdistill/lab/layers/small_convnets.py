"""Small plain ConvNets on made-up pictures: a teacher with random weights, and students trained on it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsdistill.data.dead_leaves import dead_leaves

CHANNELS, SIDE, POOLED = 3, 12, 2


def pictures(count: int, seed: int) -> Tensor:
    """Dead leaves ``[count, 3, 12, 12]``, mean 0 and variance 1 a channel."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(np.stack([dead_leaves(CHANNELS, SIDE, SIDE, rng) for _ in range(count)])).float()
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)


def convnet(widths: tuple[int, int], outputs: int, generator: torch.Generator) -> nn.Sequential:
    """Two convolutions with ReLU and pooling, and a linear output; Gaussian weights, variance 2 / fan-in."""
    first, second = widths
    model = nn.Sequential(
        nn.Conv2d(CHANNELS, first, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(POOLED),
        nn.Flatten(),
        nn.Linear(second * POOLED**2, outputs),
    )
    for module in model:
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.data
            weight.copy_(torch.randn(weight.shape, generator=generator) * math.sqrt(2 / weight[0].numel()))
            if module.bias is not None:
                module.bias.data.copy_(0.1 * torch.randn(len(weight), generator=generator))
    return model


def trained(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    steps: int,
    batch: int,
    rate: float,
    generator: torch.Generator,
    tell: Callable[[int], None],
) -> nn.Module:
    """The model trained in place on ``(x, y)`` by Adam, squared error, the rate falling to 0 as a cosine.

    Args:
        model: on the device of the samples.
        x: inputs.
        y: targets.
        steps: how many.
        batch: samples a step, drawn with replacement.
        rate: at the start.
        generator: of the draw.
        tell: told the number of steps done, now and then.
    """
    optimiser = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    with torch.enable_grad():
        for step in range(steps):
            picked = torch.randint(len(x), (batch,), generator=generator).to(x.device)
            loss = F.mse_loss(model(x[picked]), y[picked])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if step % 50 == 0:
                tell(step)
    tell(steps)
    return model.eval()
