"""Small ConvNets on synthetic images: a teacher with random weights, and students trained on it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsdistill.data.synthetic import dead_leaves

CHANNELS, SIDE, POOLED = 3, 12, 2
"""Channels and side of the images, side of the pooled map: small, so that training takes
seconds."""


def dead_leaves_images(count: int, seed: int) -> Tensor:
    """Dead-leaves images ``[count, 3, 12, 12]``, each channel with mean 0 and variance 1."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(np.stack([dead_leaves(CHANNELS, SIDE, SIDE, rng) for _ in range(count)])).float()
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)


def random_convnet(widths: tuple[int, int], outputs: int, generator: torch.Generator) -> nn.Sequential:
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


def train_by_adam(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    steps: int,
    batch: int,
    rate: float,
    generator: torch.Generator,
) -> nn.Module:
    """Train the model in place on ``(x, y)`` by Adam with squared error and a cosine schedule of the rate to
    0.

    Args:
        model: on the device of the samples.
        x: inputs.
        y: targets.
        steps: number of steps.
        batch: samples of a step, drawn with replacement.
        rate: step size at the start.
        generator: of the draws.
    """
    optimiser = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    with torch.enable_grad():
        for _ in range(steps):
            picked = torch.randint(len(x), (batch,), generator=generator).to(x.device)
            loss = F.mse_loss(model(x[picked]), y[picked])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()
