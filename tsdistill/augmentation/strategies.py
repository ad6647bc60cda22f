"""Strategies that move samples, registered as a plugin's are.

A strategy is a callable ``strategy(x, generator) -> x`` on a batch: as many samples of the same shape and
device come back, so that labels stay with them. Everything random is drawn from ``generator`` (on the CPU).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.nn import functional

from tsdistill.errors import TsdistillError
from tsdistill.plugins import hookimpl


class Strategy(Protocol):
    """What ``register_augmentations`` takes."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """A batch ``(samples, ...)`` made from the batch ``x``."""


def none(x: Tensor, generator: Generator) -> Tensor:
    """The samples as they are."""
    return x


def standard(x: Tensor, generator: Generator) -> Tensor:
    """Each image shifted by up to an eighth of its sides (the border is mirrored) and flipped left to right
    or not.

    Args:
        x: images ``(batch, channels, height, width)``.
        generator: where shifts and flips come from.

    Raises:
        TsdistillError: the samples are not images.
    """
    if x.ndim != 4:
        raise TsdistillError(
            f"the augmentation standard moves images, not samples of shape {tuple(x.shape[1:])}"
        )
    count, _, height, width = x.shape
    down, right = height // 8, width // 8
    padded = functional.pad(x, (right, right, down, down), mode="reflect")
    top = torch.randint(0, 2 * down + 1, (count, 1), generator=generator)
    left = torch.randint(0, 2 * right + 1, (count, 1), generator=generator)
    flipped = torch.rand((count, 1), generator=generator) < 0.5
    across = torch.arange(width).expand(count, width)
    rows = (top + torch.arange(height)).to(x.device)
    columns = (left + torch.where(flipped, across.flip(1), across)).to(x.device)
    image = torch.arange(count, device=x.device)
    moved = padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).contiguous()


class Directions:
    """Teacher-agnostic augmentation: each sample x becomes x + eps u or x - eps u.

    Directions u are orthonormal within a batch (as far as there are dimensions) and random from batch to
    batch, so that passes over the data cover the basis that Theorem 5 of Y. Tian, "Student specialization in
    deep ReLU networks with finite width and input dimension" (2020) asks for.

    Args:
        scale: eps over the root mean square norm of the samples about their mean (over the norm itself for
            one sample).
    """

    def __init__(self, scale: float = 0.1) -> None:
        self.scale = scale

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """The moved batch; samples of any floating shape ``(batch, ...)``.

        Raises:
            TsdistillError: the samples are not floating.
        """
        if not x.is_floating_point():
            raise TsdistillError("the augmentation directions moves real values, not integers; use none")
        flat = x.flatten(1)
        count, dimensions = flat.shape
        blocks = [_orthonormal(dimensions, min(dimensions, count - start), generator)
                  for start in range(0, count, dimensions)]  # fmt: skip
        signs = torch.randint(0, 2, (count, 1), generator=generator) * 2 - 1
        directions = (torch.cat(blocks) * signs).to(flat)
        centred = flat - flat.mean(0) if count > 1 else flat
        epsilon = self.scale * centred.norm(dim=1).square().mean().sqrt()
        return (flat + epsilon * directions).view_as(x)


def _orthonormal(dimensions: int, count: int, generator: Generator) -> Tensor:
    """``(count, dimensions)`` orthonormal rows in uniformly random position, ``count`` at most
    ``dimensions``."""
    normal = torch.randn((dimensions, count), generator=generator)
    return torch.linalg.qr(normal).Q.T


@hookimpl
def register_augmentations(register: Callable[[str, Strategy], None]) -> None:
    """Register none, standard and directions."""
    register("none", none)
    register("standard", standard)
    register("directions", Directions())
