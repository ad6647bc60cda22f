"""Strategies that need nothing but the samples, and the registration of all built-in ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from tsdistill.augmentation.boundary_samples import TeacherAware
from tsdistill.augmentation.mixup import SampleMixture
from tsdistill.augmentation.rand_augment import RandAugment
from tsdistill.augmentation.strategy_protocol import Strategy
from tsdistill.errors import TsdistillError
from tsdistill.plugins import hookimpl


def none(x: Tensor, generator: Generator) -> Tensor:  # noqa: ARG001
    """The samples as they are; for a benchmark of everything else, and where teacher outputs are cached."""
    return x


def standard(x: Tensor, generator: Generator) -> Tensor:
    """Images shifted by up to an eighth and flipped; favoured by practice where left and right mean the same.

    The border is mirrored.

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


@dataclass(frozen=True)
class Directions:
    """x + eps u or x - eps u, random u; by theory enough only with many samples, favoured without a teacher.

    Directions u are orthonormal within a batch (as far as there are dimensions) and random from batch to
    batch, so that passes over the data cover the basis that Theorem 5 of Y. Tian, "Student specialization in
    deep ReLU networks with finite width and input dimension" (2020) asks for.

    Args:
        scale: eps over the root mean square norm of the samples about their mean (over the norm itself for
            one sample).
        copies: give x, x + eps u and x - eps u of every sample, in place of one of the latter two.
    """

    scale: float = 0.1
    copies: bool = False

    name = "teacher-agnostic"

    @property
    def expands(self) -> int:
        """Samples made of each."""
        return 3 if self.copies else 1

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """The moved batch; samples of any floating shape ``(batch, ...)``.

        Raises:
            TsdistillError: the samples are not floating.
        """
        if not x.is_floating_point():
            raise TsdistillError(
                "the augmentation teacher-agnostic moves real values, not integers; use none"
            )
        flat = x.flatten(1)
        count, dimensions = flat.shape
        blocks = [_orthonormal(dimensions, min(dimensions, count - start), generator)
                  for start in range(0, count, dimensions)]  # fmt: skip
        signs = torch.randint(0, 2, (count, 1), generator=generator) * 2 - 1
        directions = (torch.cat(blocks) * signs).to(flat)
        centred = flat - flat.mean(0) if count > 1 else flat
        moves = self.scale * centred.norm(dim=1).square().mean().sqrt() * directions
        samples = torch.cat([flat, flat + moves, flat - moves]) if self.copies else flat + moves
        return samples.view(-1, *x.shape[1:])


def _orthonormal(dimensions: int, count: int, generator: Generator) -> Tensor:
    """``(count, dimensions)`` orthonormal rows in uniformly random position, ``count`` at most
    ``dimensions``."""
    normal = torch.randn((dimensions, count), generator=generator)
    return torch.linalg.qr(normal).Q.T


@hookimpl
def register_augmentations(register: Callable[[str, Strategy], None]) -> None:
    """Register the built-in strategies; ``directions`` is another name of ``teacher-agnostic``."""
    register("none", none)
    register("standard", standard)
    register("randaugment", RandAugment())
    register("mixup", SampleMixture(mixup=0.8))
    register("cutmix", SampleMixture(mixup=0.0, cutmix=1.0))
    register("directions", Directions())
    register("teacher-agnostic", Directions())
    register("teacher-aware", TeacherAware())
