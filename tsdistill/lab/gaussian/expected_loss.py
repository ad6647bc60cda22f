"""The expected loss of a two-layer ReLU network on Gaussian input, in closed form and sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tsdistill.lab.gaussian.closed_gradient import angles, check_shapes, unit_vectors


def activation_product(first: Tensor, second: Tensor) -> Tensor:
    """E[relu(aᵀx) relu(bᵀx)] = ‖a‖‖b‖ (sin θ + (π − θ) cos θ) / 2π for every pair, x ~ N(0, I).

    Source: Cho and Saul, Kernel methods for deep learning (2009), equation 3, n = 1; it is aᵀF(â, b) of
    arXiv 1703.00560, theorem 1.

    Args:
        first: a ``[..., n, d]``.
        second: b ``[..., m, d]``.

    Returns:
        ``[..., n, m]``.
    """
    direction, _ = unit_vectors(first)
    angle, across, along = angles(direction, second)
    norm = first.norm(dim=-1).unsqueeze(-1)
    return norm * (across + (math.pi - angle) * along) / (2 * math.pi)


def expected_loss(students: Tensor, teachers: Tensor) -> Tensor:
    """J = ½ E(Σ relu(w*ᵀx) − Σ relu(wᵀx))², x ~ N(0, I).

    Args:
        students: w ``[..., n, d]``.
        teachers: w* ``[..., m, d]`` with leading dimensions that broadcast.

    Returns:
        ``[...]``, exact to about 1e-16 of the squared norms in float64.

    Raises:
        TsdistillError: the two differ in the dimension of their input, or one has no nodes.
    """
    check_shapes(students, teachers)
    own = activation_product(students, students).sum((-2, -1))
    shared = activation_product(students, teachers).sum((-2, -1))
    wanted = activation_product(teachers, teachers).sum((-2, -1))
    return (own - 2 * shared + wanted) / 2


@dataclass(frozen=True)
class MonteCarloEstimate:
    """Loss and negative gradient estimated from samples, each with its standard error.

    Attributes:
        loss: mean of ½ (f* − f)², a scalar.
        loss_error: its standard error.
        velocity: mean of −∂/∂w_j of it, ``[n, d]``.
        velocity_error: its standard errors, ``[n, d]``.
    """

    loss: Tensor
    loss_error: Tensor
    velocity: Tensor
    velocity_error: Tensor


def monte_carlo(
    students: Tensor, teachers: Tensor, samples: int, generator: torch.Generator, chunk: int = 16384
) -> MonteCarloEstimate:
    """Loss and gradient by Monte Carlo, using the chain rule only.

    Args:
        students: w ``[n, d]``.
        teachers: w* ``[m, d]``.
        samples: number of Gaussian x, at least 2.
        generator: of the samples.
        chunk: samples that are held at once.
    """
    check_shapes(students, teachers)
    total = students.new_zeros(2, 1 + students.numel())
    for start in range(0, samples, chunk):
        count = min(chunk, samples - start)
        x = torch.randn(count, students.shape[1], generator=generator, dtype=students.dtype)
        pre = x @ students.T
        left = (x @ teachers.T).relu().sum(1) - pre.relu().sum(1)
        pulled = torch.einsum("b,bn,bd->bnd", left, (pre > 0).to(x.dtype), x)
        each = torch.cat([left.square().unsqueeze(1) / 2, pulled.flatten(1)], 1)
        total += torch.stack([each.sum(0), each.square().sum(0)])
    mean = total[0] / samples
    error = ((total[1] / samples - mean.square()).clamp_min(0) / (samples - 1)).sqrt()
    shape = students.shape
    return MonteCarloEstimate(mean[0], error[0], mean[1:].view(shape), error[1:].view(shape))
