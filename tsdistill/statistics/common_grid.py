"""Bringing the positions of two groups together, whatever maps, tokens or vectors they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tsdistill.statistics.sample_blocks import flat, spread, widen

_PREFIX = 5
"""Most tokens in front of those of a square image: a class token and four registers (DINOv2)."""

_SMALLEST = 4
"""Smallest side of a square of tokens; smaller token counts are as likely sequences as maps."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class CommonGrid:
    """Where the positions of a pair of groups meet.

    Attributes:
        size: the common positions; ``()`` for vectors, ``None`` for the average over all positions.
        words: the same for people.
    """

    size: Shape | None
    words: str

    def resample(self, channels: Tensor, batch: int) -> Tensor:
        """``[N, C, positions...]`` of a batch as ``[N, C, P]`` at the common positions, in the given
        precision or, where positions are averaged, at least float32.

        Windows that a transformer has cut out of its samples (N is a multiple of ``batch``) are positions of
        their sample again where positions are averaged.
        """
        shape = tuple(channels.shape[2:])
        if self.size is None:
            means = widen(channels).flatten(2).mean(2) if shape else widen(channels)
            return means.reshape(batch, -1, means.shape[1]).mean(1)[:, :, None]
        if shape == self.size:
            return flat(channels)
        channels = widen(channels)
        if len(self.size) == 2 and len(shape) == 1:
            prefix, side = grid(shape[0]) or (0, 0)
            channels = channels[:, :, prefix:].unflatten(2, (side, side))
        if tuple(channels.shape[2:]) != self.size:
            channels = _pool(channels, self.size)
        return flat(channels)


def common_grid(student_shape: Shape, teacher_shape: Shape, *, windows: bool = False) -> CommonGrid:
    """The common grid of a student group and a teacher group.

    Maps meet at the coarser resolution. Tokens of a square image count as its map, up to five in front of
    them (class, registers) left out. What has no common positions is averaged over them.

    Args:
        student_shape: sizes of the position dimensions of one sample, ``()`` for a vector.
        teacher_shape: likewise.
        windows: the two are cut into different windows, so that positions do not tell where they lie.
    """
    size: Shape | None
    if windows:
        size = None
    elif student_shape == teacher_shape:
        size = student_shape
    elif (
        student_shape
        and len(student_shape) == len(teacher_shape)
        and not (len(student_shape) == 1 and grid(student_shape[0]) and grid(teacher_shape[0]))
    ):
        size = tuple(min(pair) for pair in zip(student_shape, teacher_shape, strict=True))
    else:
        a, b = _as_map(student_shape), _as_map(teacher_shape)
        size = (min(a[0], b[0]), min(a[1], b[1])) if a and b else None
    return CommonGrid(size, _words(student_shape, teacher_shape, size))


def grid(tokens: int) -> tuple[int, int] | None:
    """``(prefix, side)`` with ``prefix + side² = tokens``, at most five tokens in front, a side of 4 or
    more; ``None`` otherwise."""
    for prefix in range(_PREFIX + 1):
        side = math.isqrt(max(0, tokens - prefix))
        if side >= _SMALLEST and side * side == tokens - prefix:
            return prefix, side
    return None


def _as_map(shape: Shape) -> tuple[int, int] | None:
    if len(shape) == 2:
        return shape[0], shape[1]
    square = grid(shape[0]) if len(shape) == 1 else None
    return (square[1], square[1]) if square else None


def _words(student_shape: Shape, teacher_shape: Shape, size: Shape | None) -> str:
    if size is None:
        return "averaged over positions"
    if not size:
        return "vectors"
    sides = "x".join(str(side) for side in size)
    return f"{sides} positions" if student_shape == teacher_shape else f"pooled to {sides} positions"


def _pool(channels: Tensor, size: Shape) -> Tensor:
    if len(size) == 1:
        return functional.adaptive_avg_pool1d(channels, size[0])
    if len(size) == 2:
        return functional.adaptive_avg_pool2d(channels, (size[0], size[1]))
    if len(size) == 3:
        return functional.adaptive_avg_pool3d(channels, (size[0], size[1], size[2]))
    return channels.flatten(2).mean(2, keepdim=True)


def nodes(block: Tensor, coords: np.ndarray, *, average: bool) -> Tensor:
    """The nodes at ``coords [nodes, m]`` of a block ``[N, C, P]``.

    Returns:
        ``[N, nodes, m·P]``: the m channels of a node are further positions; with ``average`` (the other side
        has another number of them) their mean, ``[N, nodes, P]``.
    """
    spreaded = spread(block, coords)
    if not average or coords.shape[1] == 1:
        return spreaded
    return torch.mean(widen(spreaded).unflatten(2, (coords.shape[1], block.shape[2])), 2)
