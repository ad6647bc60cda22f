"""Pairs of two-layer ReLU networks on the plane, trained together, and the lines of their boundaries."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tsdistill.errors import TsdistillError

HALF_SIDE = 1.0
"""Inputs are uniform in the square from −1 to 1."""

SAME_BOUNDARY = 0.05
"""Distance between boundaries within the square up to which one lies on the other: 2.5 % of the
square's width."""


@dataclass
class Pairs:
    """S two-layer networks on the plane, f(x) = Σ v_k relu(w_kᵀ [x, 1]).

    Attributes:
        fan_in: (w_x, w_y, bias) ``[S, 3, n]``.
        fan_out: ``[S, n, c]``.
    """

    fan_in: Tensor
    fan_out: Tensor

    def nodes(self, x: Tensor) -> Tensor:
        """Activations ``[S, N, n]`` at points ``x [N, 3]`` whose last coordinate is 1."""
        return (x @ self.fan_in).relu()


def plane_teachers(
    count: int, nodes: int, outputs: int, generator: torch.Generator, *, decay: float = 0.0
) -> Pairs:
    """Teachers whose boundaries cross the square, with separated directions.

    Args:
        count: S.
        nodes: m, at most 6.
        outputs: c.
        generator: draws them.
        decay: p of the fan-out norms 1/j^p.

    Raises:
        TsdistillError: more than 6 nodes.
    """
    if nodes > 6:
        raise TsdistillError(
            f"{nodes} teacher nodes on the plane: give 6 or fewer, for lines that can be told apart"
        )
    turn = torch.rand(count, 1, generator=generator) * 2 * math.pi
    wedge = math.pi / nodes
    spread = wedge * (torch.arange(nodes) + 0.4 * torch.rand(count, nodes, generator=generator))
    angle = turn + spread + math.pi * (torch.rand(count, nodes, generator=generator) > 0.5)
    fan_out = torch.randn(count, nodes, outputs, generator=generator)
    fan_out *= (torch.arange(1, nodes + 1) ** -decay / fan_out.norm(dim=2)).unsqueeze(2)
    return Pairs(_lines(angle, 0.45, generator), fan_out)


def plane_students(count: int, nodes: int, outputs: int, start: float, generator: torch.Generator) -> Pairs:
    """Students with unit fan-in in random directions and fan-out of norm ``start``."""
    angle = torch.rand(count, nodes, generator=generator) * 2 * math.pi
    fan_out = torch.randn(count, nodes, outputs, generator=generator)
    return Pairs(_lines(angle, 0.7, generator), start * fan_out / fan_out.norm(dim=2, keepdim=True))


def square_points(count: int, generator: torch.Generator) -> Tensor:
    """``[count, 3]``: uniform in the square, and a 1 for the bias."""
    x = HALF_SIDE * (2 * torch.rand(count, 2, generator=generator) - 1)
    return torch.cat([x, torch.ones(count, 1)], 1)


def train_pairs(
    pairs: Pairs,
    goals: Pairs,
    steps: int,
    rate: float,
    batch: int,
    generator: torch.Generator,
    record: Callable[[int], None],
    momentum: float = 0.9,
) -> None:
    """Gradient descent with momentum on J = ½ E‖f* − f‖², on fresh points that all pairs share.

    The rate falls to a tenth after half of the steps and to a hundredth after eight tenths. The gradient is
    that of Lemma 1: fan-in [x, 1] ⊗ gate · vᵀ(f* − f), fan-out h ⊗ (f* − f).

    Args:
        pairs: students, trained in place.
        goals: their teachers.
        steps: number of steps.
        rate: step size of the first half.
        batch: points of a step.
        generator: of the points.
        record: called with the number of each step before it, and with ``steps`` at the end.
        momentum: of heavy-ball descent.
    """
    moved_in, moved_out = torch.zeros_like(pairs.fan_in), torch.zeros_like(pairs.fan_out)
    for step in range(steps):
        record(step)
        now = rate * (1 if step < 0.5 * steps else 0.1 if step < 0.8 * steps else 0.01) / batch
        x = square_points(batch, generator)
        hidden = pairs.nodes(x)
        left = torch.bmm(goals.nodes(x), goals.fan_out).baddbmm_(hidden, pairs.fan_out, alpha=-1)
        back = torch.bmm(left, pairs.fan_out.mT).mul_(hidden > 0)
        moved_out.mul_(momentum).baddbmm_(hidden.mT, left, alpha=now)
        moved_in.mul_(momentum).add_(x.T @ back, alpha=now)
        pairs.fan_out.add_(moved_out)
        pairs.fan_in.add_(moved_in)
    record(steps)


def pair_losses(pairs: Pairs, goals: Pairs, x: Tensor) -> Tensor:
    """½ mean ‖f* − f‖² over points ``x [N, 3]``, ``[S]``."""
    left = torch.bmm(goals.nodes(x), goals.fan_out) - torch.bmm(pairs.nodes(x), pairs.fan_out)
    return left.square().sum(2).mean(1) / 2


def pair_correlations(pairs: Pairs, goals: Pairs, x: Tensor) -> tuple[Tensor, Tensor]:
    """Correlation of each student with each teacher node ``[S, n, m]`` over ``x``, and strength ``[S, n]``.

    Strength is ‖v_k‖ σ(h_k); nodes without variance have correlation 0.
    """
    own, other = pairs.nodes(x).double(), goals.nodes(x).double()
    own, other = own - own.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    size, length = own.norm(dim=1), other.norm(dim=1)
    correlation = own.mT @ other / (size.unsqueeze(2) * length.unsqueeze(1)).clamp_min(1e-12)
    return correlation, pairs.fan_out.norm(dim=2) * size.float() / math.sqrt(len(x))


def boundary_distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Largest distance from the first boundary, within the square, to the line of the second.

    Args:
        first: (w_x, w_y, bias) of a node.
        second: of another.

    Returns:
        infinity if the first boundary does not cross the square, or one of the two is not a line.
    """
    ends = boundary_segment(first)
    norm = math.hypot(second[0], second[1])
    if ends is None or norm == 0:
        return math.inf
    (x0, y0), (x1, y1) = ends
    away = [abs(second[0] * x + second[1] * y + second[2]) / norm for x, y in ((x0, y0), (x1, y1))]
    return max(away)


def boundary_segment(
    node: Sequence[float], side: float = HALF_SIDE
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The two ends of a boundary within the square; ``None`` if it does not cross the square.

    Args:
        node: (w_x, w_y, bias), the boundary is w_x x + w_y y + bias = 0.
        side: half the width of the square.
    """
    a, b, c = node
    crossings = []
    for edge in (-side, side):
        if b:
            crossings.append((edge, -(a * edge + c) / b))
        if a:
            crossings.append((-(b * edge + c) / a, edge))
    within = sorted({(round(x, 9), round(y, 9)) for x, y in crossings if max(abs(x), abs(y)) <= side + 1e-9})
    return (within[0], within[-1]) if len(within) > 1 else None


def _lines(angle: Tensor, reach: float, generator: torch.Generator) -> Tensor:
    """Unit normals at these angles ``[S, n]``, boundaries at most ``reach`` from the middle."""
    offset = reach * (2 * torch.rand(angle.shape, generator=generator) - 1)
    return torch.stack([angle.cos(), angle.sin(), offset], 1)
