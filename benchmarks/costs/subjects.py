"""The networks whose pruning is timed, the images that calibrate, and others that judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SMALL = ("resnet20", "convnet", "mobilenet", "vit")
"""Networks trained on Fashion-MNIST (``benchmarks/trained``)."""

LARGE = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "mobilenetv3": "mobilenetv3_large_100",
    "vit-tiny": "vit_tiny_patch16_224",
    "vit-small": "vit_small_patch16_224",
    "convnext-tiny": "convnext_tiny",
}
"""Architectures of timm, 224x224 pixels, with random weights: their output error alone says something."""

JUDGES = 64
"""Unseen images that the output error of a large network is measured on."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with its data.

    Attributes:
        model: in evaluation mode.
        images: calibration images ``[n, C, H, W]``.
        unseen: images that judge.
        labels: of those; ``None`` for random weights.
    """

    model: nn.Module
    images: Tensor
    unseen: Tensor
    labels: Tensor | None


def subject(name: str, images: int, seed: int) -> Subject:
    """The network ``name`` with ``images`` calibration images, another part of the data for every seed."""
    if name in SMALL:
        return _small(name, images, seed)
    if name == "lite0":
        return _lite(images, seed)
    return _large(name, images, seed)


def _small(name: str, images: int, seed: int) -> Subject:
    import fashion

    x, _ = fashion.images("train")
    index = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:images]
    return Subject(fashion.trained(name), x[index], *fashion.images("t10k"))


def _lite(images: int, seed: int) -> Subject:
    from pruned.cases import case

    lite = case("lite0")
    x, _ = lite.calibration(seed, images)
    return Subject(lite.dense, x, *lite.judged)


def _large(name: str, images: int, seed: int) -> Subject:
    import timm

    torch.manual_seed(0)
    model = timm.create_model(LARGE[name]).eval()
    _settle(model)
    draw: Callable[[int, int], Tensor] = _textures
    return Subject(model, draw(images, seed), draw(JUDGES, 10_000), None)


def _textures(count: int, seed: int) -> Tensor:
    """Smooth random images: noise at three scales, so that neighbours are alike as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, 224, 224)
    for side in (7, 28, 112):
        noise = torch.randn(count, 3, side, side, generator=generator)
        total += nn.functional.interpolate(noise, size=224, mode="bilinear")
    return total / 3**0.5


@torch.no_grad()
def _settle(model: nn.Module) -> None:
    """Set batch norms' running statistics to those of some images: random weights have none that fit. Those
    that start with a scale of zero get one, as they would hide a whole branch."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        if not bool(norm.weight.any()):
            nn.init.ones_(norm.weight)
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    if norms:
        model(_textures(32, 20_000))
    for norm in norms:
        norm.momentum = 0.1
    model.eval()
