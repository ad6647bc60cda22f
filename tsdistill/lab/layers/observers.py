"""Who observes a teacher node: student nodes that are active somewhere on its boundary (1909.13458, 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Observed:
    """Boundaries and their observers.

    Attributes:
        seen: bool ``[m]``: the data lie on both sides of the boundary.
        share: float64 ``[m, n]``: part of the boundary points at which each node of the student is active.
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


def onto_boundary(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
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


def observe(
    x: Tensor,
    teacher: tuple[Tensor, Tensor | None],
    student: tuple[Tensor, Tensor | None],
    fan_out: Tensor,
    *,
    dead: float = 1e-9,
) -> Observed:
    """Which student nodes observe which teacher nodes of the lowest layer (Definition of observers).

    A student node observes a teacher node when it is active somewhere on that node's boundary. The boundary
    is looked at where the data are: the samples projected onto it.

    Args:
        x: samples ``[N, d]``.
        teacher: fan-in ``[m, d]`` and biases ``[m]`` or ``None``.
        student: fan-in ``[n, d]`` and biases ``[n]`` or ``None``.
        fan_out: the student's ``[n, c]``; a node without fan-out observes nothing.
        dead: fan-out norms up to this part of the largest count as none.
    """
    weight, bias = teacher
    mine, shift = student
    z = x @ weight.T + (0 if bias is None else bias)
    seen = (z > 0).any(0) & (z < 0).any(0)
    norms = fan_out.norm(dim=1)
    alive = norms > dead * norms.max()
    shares = []
    for j in range(len(weight)):
        points = onto_boundary(x, weight[j], None if bias is None else bias[j])
        active = (points @ mine.T + (0 if shift is None else shift)) > 0
        shares.append(active.double().mean(0) * alive)
    return Observed(seen, torch.stack(shares))
