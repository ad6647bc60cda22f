"""Critical points of the expected loss: their search, their kind, and the symmetric case of K nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from tsdistill.lab.gaussian.expected_loss import velocity


@dataclass(frozen=True)
class CriticalPoint:
    """A point where the population gradient is zero.

    Attributes:
        students: w ``[n, d]``.
        gradient: largest absolute coordinate of ∂J/∂w.
        curvatures: eigenvalues of the Hessian ``[n d]``, increasing.
    """

    students: Tensor
    gradient: float
    curvatures: Tensor

    def flat(self, tolerance: float = 1e-6) -> int:
        """Number of directions in which the loss is flat to second order."""
        return int((self.curvatures.abs() < tolerance).sum())

    def falling(self, tolerance: float = 1e-6) -> int:
        """Number of directions in which the loss falls to second order."""
        return int((self.curvatures < -tolerance).sum())

    def kind(self, tolerance: float = 1e-6) -> str:
        """``minimum`` (no direction falls), ``saddle`` or ``maximum``."""
        falling = self.falling(tolerance)
        if not falling:
            return "minimum"
        return "maximum" if falling == len(self.curvatures) else "saddle"


def hessian(students: Tensor, teachers: Tensor) -> Tensor:
    """∂²J/∂w∂w ``[n d, n d]``, by differentiating the closed gradient."""
    shape = students.shape

    def pulled(flat: Tensor) -> Tensor:
        return -velocity(flat.view(shape), teachers).total.flatten()

    jacobian = torch.autograd.functional.jacobian(pulled, students.flatten(), vectorize=True)
    return (jacobian + jacobian.T) / 2


def critical_point(students: Tensor, teachers: Tensor) -> CriticalPoint:
    """The point ``students`` with its gradient and curvatures."""
    gradient = float(velocity(students, teachers).total.abs().max())
    return CriticalPoint(students, gradient, torch.linalg.eigvalsh(hessian(students, teachers)))


def find_critical_point(students: Tensor, teachers: Tensor, tolerance: float = 1e-10) -> CriticalPoint | None:
    """The critical point that Levenberg-Marquardt on the gradient reaches from ``students [n, d]``.

    Returns:
        ``None`` where it ends at a gradient above ``tolerance``, or at a node with weights near 0 (where the
        loss is not differentiable).
    """
    shape, dtype = students.shape, students.dtype

    def pulled(flat: np.ndarray) -> np.ndarray:
        return velocity(torch.tensor(flat, dtype=dtype).view(shape), teachers).total.flatten().numpy()

    def slope(flat: np.ndarray) -> np.ndarray:
        return -hessian(torch.tensor(flat, dtype=dtype).view(shape), teachers).numpy()

    solution = optimize.root(
        pulled, students.flatten().numpy(), jac=slope, method="lm", options={"xtol": 1e-15}
    )
    point = torch.tensor(solution.x, dtype=dtype).view(shape)
    if not torch.isfinite(point).all() or float(point.norm(dim=1).min()) < 1e-3 * float(teachers.norm()):
        return None
    candidate = critical_point(point, teachers)
    return candidate if candidate.gradient <= tolerance else None


def component_outside_span(students: Tensor, teachers: Tensor) -> Tensor:
    """The part of each student outside the span of the teachers, ``[n, d]``."""
    basis = span_basis(teachers)
    return students - students @ basis @ basis.T


def span_basis(teachers: Tensor) -> Tensor:
    """An orthonormal basis of the teachers' span, ``[d, rank]``."""
    left, size, _ = torch.linalg.svd(teachers.T, full_matrices=False)
    return left[:, size > 1e-10 * size[0]]


def random_rotation(teachers: Tensor, generator: torch.Generator) -> Tensor:
    """A random rotation R ``[d, d]`` with R w* = w* for every teacher, Haar-distributed on the rest."""
    basis = span_basis(teachers)
    rest = torch.linalg.svd(torch.cat([basis, torch.zeros_like(teachers.T)], 1))[0][:, basis.shape[1] :]
    size = rest.shape[1]
    drawn = torch.randn(size, size, generator=generator, dtype=teachers.dtype)
    turn, upper = torch.linalg.qr(drawn)
    turn = turn * upper.diagonal().sign()
    if size and torch.linalg.det(turn) < 0:
        turn[:, 0] = -turn[:, 0]
    return basis @ basis.T + rest @ turn @ rest.T


def orbit_dimension(students: Tensor, teachers: Tensor, tolerance: float = 1e-6) -> int:
    """Dimension of the manifold on which the rotations that keep the teachers carry ``students``.

    With D = d − rank(teachers) free dimensions and students that span r of them it is the dimension of the
    Stiefel manifold, r D − r (r + 1)/2. Source: arXiv 1703.00560, the theorem on critical points outside
    the teachers' span: with d ≥ K + 2 they form manifolds, as each rotation of a critical point is one.
    """
    free = teachers.shape[1] - span_basis(teachers).shape[1]
    rank = int((torch.linalg.svdvals(component_outside_span(students, teachers)) > tolerance).sum())
    return rank * free - rank * (rank + 1) // 2


def symmetric_students(plane: Tensor, count: int) -> Tensor:
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


def symmetric_velocity(plane: Tensor, count: int) -> Tensor:
    """Velocity of (x, y) under gradient flow, ``[..., 2]``; symmetric starts stay symmetric."""
    velocities = velocity(symmetric_students(plane, count), torch.eye(count, dtype=plane.dtype)).total
    return torch.stack([velocities[..., 0, 0], velocities[..., 0, 1]], -1)


def symmetric_saddle(count: int) -> float:
    """x = y = (√(K − 1) − arccos(1/√K) + π) / (πK), the critical point at which all students are equal.

    Source: arXiv 1703.00560, the theorem on symmetric starts of several nodes.

    Args:
        count: K, at least 2.
    """
    return (math.sqrt(count - 1) - math.acos(1 / math.sqrt(count)) + math.pi) / (math.pi * count)
