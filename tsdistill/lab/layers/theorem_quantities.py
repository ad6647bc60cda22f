"""The quantities of Theorems 2 to 4 of arXiv 1909.13458: gradient, observers, strength, precision."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tsdistill.lab.engine import Networks

BOUND_FACTOR = 5.0
"""The 5 in Theorem 4's bound on the gradient, α ε / (5 K^{3/2} √d)."""


def bound_constant(nodes: int, inputs: int) -> float:
    """5 K^{3/2} √d: the precision that the theorem grants, divided by gradient / α."""
    return BOUND_FACTOR * nodes**1.5 * math.sqrt(inputs)


def implied_precision(gradient: float | Tensor, alpha: Tensor, nodes: int, inputs: int) -> Tensor:
    """The precision ε that the theorem grants at a gradient: 5 K^{3/2} √d · ‖g‖∞ / α.

    Args:
        gradient: the largest absolute entry of g_1(x) over samples and student nodes.
        alpha: α_kj = v_kᵀ v*_j of the observer k with the largest one, any shape.
        nodes: K = m + n, of the lowest layer of teacher and student.
        inputs: d, a constant input for biases counted.

    Returns:
        ε, shaped as ``alpha``; infinite where α is not positive. Values above 1 are void.
    """
    ratio = bound_constant(nodes, inputs) * torch.as_tensor(gradient, dtype=alpha.dtype)
    return torch.where(alpha > 0, ratio / alpha.clamp_min(torch.finfo(alpha.dtype).tiny), math.inf)


def required_samples(precision: float, nodes: int, inputs: int) -> float:
    """K^{5/2} d³ / ε, the order of the number of samples in the theorem (its constant is unknown)."""
    return nodes**2.5 * inputs**3 / precision


def misalignment(teacher: Tensor, student: Tensor) -> Tensor:
    """sin of the angle between fan-in weights of teacher nodes and student nodes (bias as one more entry).

    It is 1 for angles above 90°.

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


@dataclass(frozen=True, eq=False)
class ObserverTable:
    """Boundaries and their observers.

    Attributes:
        seen: bool ``[m]``: the data lie on both sides of the boundary.
        share: float64 ``[m, n]``: share of the boundary points at which each student node is active.
    """

    seen: Tensor
    share: Tensor

    @property
    def observers(self) -> Tensor:
        """bool ``[m, n]``: student node k observes teacher node j."""
        return (self.share > 0) & self.seen[:, None]

    @property
    def observed(self) -> Tensor:
        """bool ``[m]``: at least one student node observes it."""
        return self.observers.any(1)


def project_on_boundary(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Samples projected onto a node's boundary wᵀx + b = 0 along its normal.

    Args:
        x: samples ``[N, d]``.
        weight: ``[d]``, not zero.
        bias: a scalar.

    Returns:
        ``[N, d]``.
    """
    z = x @ weight + (0 if bias is None else bias)
    return x - z[:, None] * weight / weight.square().sum()


def observed_by(
    x: Tensor,
    teacher: tuple[Tensor, Tensor | None],
    student: tuple[Tensor, Tensor | None],
    fan_out: Tensor,
    *,
    dead: float = 1e-9,
) -> ObserverTable:
    """Which student nodes observe which teacher nodes of the lowest layer (Definition of observers).

    A student node observes a teacher node if it is active somewhere on that node's boundary. The points of
    the boundary are the samples, projected onto it.

    Args:
        x: samples ``[N, d]``.
        teacher: fan-in ``[m, d]`` and biases ``[m]`` or ``None``.
        student: fan-in ``[n, d]`` and biases ``[n]`` or ``None``.
        fan_out: the student's ``[n, c]``; a node without fan-out observes nothing.
        dead: fan-out norms up to this share of the largest count as 0.
    """
    weight, bias = teacher
    student_gates, shift = student
    z = x @ weight.T + (0 if bias is None else bias)
    seen = (z > 0).any(0) & (z < 0).any(0)
    norms = fan_out.norm(dim=1)
    alive = norms > dead * norms.max()
    shares = []
    for j in range(len(weight)):
        points = project_on_boundary(x, weight[j], None if bias is None else bias[j])
        active = (points @ student_gates.T + (0 if shift is None else shift)) > 0
        shares.append(active.double().mean(0) * alive)
    return ObserverTable(seen, torch.stack(shares))


SAME_DIRECTION = 0.1
"""Sine of the angle below which fan-in weights count as of one direction: 6°."""


def augmented_fan_in(networks: Networks) -> Tensor:
    """Fan-in weights of the lowest layer with the bias as one more entry ``[S, n, d + 1]``."""
    fan_in = networks.fan_in
    bias = networks.biases[0] if networks.biases else fan_in.new_zeros(fan_in.shape[:2])
    return torch.cat([fan_in, bias[..., None]], -1)


@torch.no_grad()
def lowest_gradients(teachers: Networks, students: Networks, x: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of Lemma 1 at the nodes of two-layer students, g_1(x) = D V (f*(x) − f(x)).

    Args:
        teachers: S networks.
        students: S two-layer networks.
        x: samples ``[N, d]``.

    Returns:
        the largest absolute entry over samples and nodes ``[S]``; and ‖g_1(x)‖ by the root mean square (over
        samples) of its value for a student with output 0, ``[S, N]``.
    """
    wanted = teachers(x)
    on = students.hidden(x)[0] > 0
    g = torch.bmm(students.fan_out, (wanted - students(x)).transpose(1, 2)) * on
    whole = torch.bmm(students.fan_out, wanted.transpose(1, 2)) * on
    tiny = torch.finfo(g.dtype).tiny
    scale = whole.square().sum(1).mean(1, keepdim=True).sqrt()
    return g.abs().amax((1, 2)), g.norm(dim=1) / scale.clamp_min(tiny)


@torch.no_grad()
def node_strengths(students: Networks, x: Tensor) -> Tensor:
    """s_k = ‖v_k‖ σ(h_k) ``[S, n]``: the fan-out norm of the standardised node."""
    return students.fan_out.norm(dim=2) * students.hidden(x)[-1].std(2)


@torch.no_grad()
def net_strengths(students: Networks, x: Tensor, near: float = SAME_DIRECTION) -> Tensor:
    """Strength of the boundary that a node lies on ``[S, n]``: fan-outs of all students there, added up.

    Students whose fan-in weights have the same direction are multiples of one node; Theorem 3 speaks of the
    sum of their fan-out, ‖Σ ‖w_k‖ v_k‖, which can vanish while each of them has some.

    Args:
        students: S two-layer networks.
        x: samples ``[N, d]``.
        near: nodes whose fan-in weights differ by less than this (sin of the angle) count as one.
    """
    fan_in = augmented_fan_in(students)
    size = fan_in.norm(dim=2)
    one = (misalignment(fan_in, fan_in) < near).to(fan_in)
    net = torch.bmm(one, size[..., None] * students.fan_out).norm(dim=2)
    spread = students.hidden(x)[-1].std(2) / size.clamp_min(torch.finfo(size.dtype).tiny)
    return net * spread


def without_fan_out(students: Networks, leaving: Tensor) -> Networks:
    """The students with the fan-out of nodes ``leaving [S, n]`` at zero."""
    last = students.fan_out * ~leaving[:, :, None]
    return replace(students, weights=(*students.weights[:-1], last))


def recovery_precision(teachers: Networks, students: Networks) -> Tensor:
    """sin of the angle between each lowest teacher node and the student node nearest to it ``[S, m]``."""
    return misalignment(augmented_fan_in(teachers), augmented_fan_in(students)).amin(2)


@torch.no_grad()
def observer_mask(teachers: Networks, students: Networks, x: Tensor) -> tuple[Tensor, Tensor]:
    """Who observes whom, and how well that serves.

    Returns:
        bool ``[S, m, n]``: student node k observes teacher node j; and ``[S, m]``: the largest
        α_kj = v_kᵀ v*_j among the observers of j (0 where none is positive).
    """
    active = []
    for s in range(students.count):
        student_gates, teacher_gates = students.some([s]), teachers.some([s])
        active.append(
            observed_by(
                x,
                (teacher_gates.fan_in[0], teacher_gates.biases[0][0] if teacher_gates.biases else None),
                (student_gates.fan_in[0], student_gates.biases[0][0] if student_gates.biases else None),
                student_gates.fan_out[0],
            ).observers
        )
    who = torch.stack(active)
    alpha = torch.bmm(teachers.fan_out, students.fan_out.transpose(1, 2))
    return who, torch.where(who, alpha, 0).amax(2).clamp_min(0)
