"""The population gradient of a two-layer ReLU network on Gaussian input, and its two parts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tsdistill.errors import TsdistillError


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
