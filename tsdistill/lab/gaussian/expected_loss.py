"""The expected loss of a two-layer ReLU network on Gaussian input, in closed form and sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tsdistill.errors import TsdistillError


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


@dataclass(frozen=True)
class Velocity:
    """The negative gradient −∂J/∂w_j of each student node, in two parts.

    Attributes:
        linear: ½ (Σ w* − Σ w), ``[..., n, d]``: the gradient of linear nodes; for one node it points
            to the teacher's weights.
        nonlinear: the contribution of the gates, ``[..., n, d]``.
    """

    linear: Tensor
    nonlinear: Tensor

    @property
    def total(self) -> Tensor:
        """−∂J/∂w_j, ``[..., n, d]``."""
        return self.linear + self.nonlinear


def velocity(students: Tensor, teachers: Tensor) -> Velocity:
    """The negative gradient of J = ½ E(Σ relu(w*ᵀx) − Σ relu(wᵀx))², x ~ N(0, I), in closed form.

    −∂J/∂w_j = Σ_j' F(ŵ_j, w*_j') − Σ_j' F(ŵ_j, w_j') with F(e, w) = E[x 1(eᵀx > 0) 1(wᵀx > 0) xᵀw]
    = ((π − θ) w + ‖w‖ sin θ e) / 2π; source: arXiv 1703.00560, theorem 1
    summed over nodes. A node whose weights are all 0 has velocity 0.

    Args:
        students: w ``[..., n, d]``.
        teachers: w* ``[..., m, d]`` with leading dimensions that broadcast.

    Raises:
        TsdistillError: the two differ in the dimension of their input, or one has no nodes.
    """
    check_shapes(students, teachers)
    direction, alive = unit_vectors(students)
    to_teacher, across_teacher, _ = angles(direction, teachers)
    to_student, across_student, _ = angles(direction, students)
    linear = (teachers.sum(-2, keepdim=True) - students.sum(-2, keepdim=True)) / 2
    turned = to_student @ students - to_teacher @ teachers
    kept = (across_teacher.sum(-1) - across_student.sum(-1)).unsqueeze(-1) * direction
    nonlinear = (turned + kept) / (2 * math.pi)
    return Velocity(linear * alive, nonlinear * alive)


def unit_vectors(weights: Tensor) -> tuple[Tensor, Tensor]:
    """ŵ ``[..., n, d]``, and whether a node has non-zero weights ``[..., n, 1]``; ŵ is 0 where not."""
    norm = weights.norm(dim=-1, keepdim=True)
    alive = norm > 0
    return weights / torch.where(alive, norm, 1.0), alive


def angles(direction: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Angle, ‖w‖ sin θ and ‖w‖ cos θ, each ``[..., n, m]``, of unit vectors and weights.

    Computed from the part of w orthogonal to e, so that angles near 0 and π are precise. Derivatives of
    parallel pairs are those of the limit: 0 for the first two.

    Args:
        direction: e ``[..., n, d]``.
        weights: w ``[..., m, d]``.
    """
    along = direction @ weights.mT
    rest = weights.unsqueeze(-3) - along.unsqueeze(-1) * direction.unsqueeze(-2)
    square = rest.square().sum(-1)
    some = square > 0
    across = torch.where(some, torch.where(some, square, 1.0).sqrt(), 0.0)
    return torch.atan2(across, along), across, along


def check_shapes(students: Tensor, teachers: Tensor) -> None:
    """Raise unless students and teachers have nodes and the same input dimension.

    Raises:
        TsdistillError: the two differ in the dimension of their input, or one has no nodes.
    """
    if students.shape[-1] != teachers.shape[-1]:
        raise TsdistillError(
            f"students take {students.shape[-1]} inputs, teachers {teachers.shape[-1]}: give both the same"
        )
    if 0 in (*students.shape[-2:], *teachers.shape[-2:]):
        raise TsdistillError("students and teachers need at least one node and one input")
