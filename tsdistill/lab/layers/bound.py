"""Theorem 4 of arXiv 1909.13458: how precisely teacher nodes are recovered at a given gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CONSTANT = 5.0
"""In the bound on the gradient, α ε / (5 K^{3/2} √d)."""


def wanted_ratio(nodes: int, inputs: int) -> float:
    """5 K^{3/2} √d: the precision that the theorem grants, by gradient over α."""
    return CONSTANT * nodes**1.5 * math.sqrt(inputs)


def implied_precision(gradient: float | Tensor, alpha: Tensor, nodes: int, inputs: int) -> Tensor:
    """The precision ε that the theorem grants at a gradient: 5 K^{3/2} √d · ‖g‖∞ / α.

    Args:
        gradient: the largest absolute entry of g_1(x) over samples and student nodes.
        alpha: α_kj = v_kᵀ v*_j of the observer that serves best, any shape.
        nodes: K = m + n, of the lowest layer of teacher and student.
        inputs: d, a constant input for biases counted.

    Returns:
        ε, shaped as ``alpha``; infinite where α is not positive. Above 1 it says nothing.
    """
    ratio = wanted_ratio(nodes, inputs) * torch.as_tensor(gradient, dtype=alpha.dtype)
    return torch.where(alpha > 0, ratio / alpha.clamp_min(torch.finfo(alpha.dtype).tiny), math.inf)


def wanted_gradient(precision: float, alpha: Tensor, nodes: int, inputs: int) -> Tensor:
    """The gradient below which the theorem grants ``precision``: α ε / (5 K^{3/2} √d)."""
    return alpha * precision / wanted_ratio(nodes, inputs)


def wanted_samples(precision: float, nodes: int, inputs: int) -> float:
    """K^{5/2} d³ / ε, the order of the samples that the theorem asks for (its constant is not known)."""
    return nodes**2.5 * inputs**3 / precision


def misalignment(teacher: Tensor, student: Tensor) -> Tensor:
    """sin of the angle between fan-in weights of teacher nodes and student nodes (bias as one more entry).

    A node that points the other way is as far away as one at a right angle: sin 90° = 1.

    Args:
        teacher: ``[..., m, d]``.
        student: ``[..., n, d]``.

    Returns:
        ``[..., m, n]``, from 0 (same direction) to 1. Computed from differences, so that it is precise where
        it is small.
    """
    a = torch.nn.functional.normalize(teacher, dim=-1)
    b = torch.nn.functional.normalize(student, dim=-1)
    cosine = a @ b.transpose(-1, -2)
    half = (a[..., :, None, :] - b[..., None, :, :]).norm(dim=-1) / 2
    sine = 2 * half * (1 - half.square()).clamp_min(0).sqrt()
    return torch.where(cosine > 0, sine, torch.ones_like(sine))
