"""Small networks that several folders of tests use."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and running statistic becomes a plain random figure."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        fan_in = max(1, parameter[0].numel()) if parameter.ndim > 1 else 1
        noise = torch.randn(parameter.shape, generator=generator)
        offset = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
        parameter.data = offset + noise * (fan_in**-0.5 if parameter.ndim > 1 else 0.2)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
        elif name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return model.eval()


def mlp(*widths: int, seed: int = 0) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for index, (a, b) in enumerate(itertools.pairwise(widths)):
        layers += [nn.Linear(a, b)] + ([nn.ReLU()] if index < len(widths) - 2 else [])
    model = nn.Sequential(*layers)
    randomise(model, seed)
    return model


def untrained_mlp(
    *widths: int, seed: int = 0, act: nn.Module | None = None, bias: bool = True
) -> nn.Sequential:
    """Linear layers with ``act`` (ReLU) between them, as PyTorch initialises them."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for read, written in itertools.pairwise(widths):
        layers += [nn.Linear(read, written, bias), act or nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def convnet(*widths: int, seed: int = 0) -> nn.Sequential:
    """Convolutions with batch norm and ReLU, a mean over positions, ten classes; randomised."""
    layers: list[nn.Module] = []
    for read, written in itertools.pairwise((1, *widths)):
        layers += [nn.Conv2d(read, written, 3, padding=1), nn.BatchNorm2d(written), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))
    randomise(model, seed)
    return model


class Residual(nn.Module):
    """Convolutions without bias, batch norms, a residual stream, a flattened map and a linear layer."""

    def __init__(self, width: int = 8, inner: int = 12, classes: int = 5, side: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.first = nn.Conv2d(width, inner, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(inner)
        self.second = nn.Conv2d(inner, width, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width * (side // 4) ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.stem(x)))
        y = functional.relu(self.first_norm(self.first(x)))
        x = functional.relu(x + self.second_norm(self.second(y)))
        return self.head(functional.avg_pool2d(x, 4).flatten(1))


def residual(seed: int = 0, **sizes: int) -> Residual:
    """A randomised ``Residual``."""
    model = Residual(**sizes)
    randomise(model, seed)
    return model


def images(count: int, seed: int = 0, side: int = 8) -> Tensor:
    """Smooth random images ``[count, 3, side, side]``."""
    noise = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return noise + 2 * functional.avg_pool2d(noise, 3, 1, 1)
