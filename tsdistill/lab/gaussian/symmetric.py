"""K orthonormal teacher nodes and K students that are permutations of one another: two numbers, x and y."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tsdistill.lab.gaussian.gradient import velocity


def students_at(plane: Tensor, count: int) -> Tensor:
    """w_j = x w*_j + y Σ_{j' ≠ j} w*_j', for teachers that are the rows of the identity.

    Source: arXiv 1703.00560, the section on several nodes.

    Args:
        plane: (x, y) ``[..., 2]``.
        count: K.

    Returns:
        ``[..., K, K]``.
    """
    own, others = plane[..., 0, None, None], plane[..., 1, None, None]
    identity = torch.eye(count, dtype=plane.dtype)
    return own * identity + others * (1 - identity)


def moved(plane: Tensor, count: int) -> Tensor:
    """Velocity of (x, y) under gradient flow, ``[..., 2]``; symmetric starts stay symmetric."""
    found = velocity(students_at(plane, count), torch.eye(count, dtype=plane.dtype)).total
    return torch.stack([found[..., 0, 0], found[..., 0, 1]], -1)


def saddle(count: int) -> float:
    """x = y = (√(K − 1) − arccos(1/√K) + π) / (πK), the critical point where all students are one.

    Source: arXiv 1703.00560, the theorem on symmetric starts of several nodes.

    Args:
        count: K, at least 2.
    """
    return (math.sqrt(count - 1) - math.acos(1 / math.sqrt(count)) + math.pi) / (math.pi * count)
