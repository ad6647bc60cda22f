"""One layer's fan-in fitted by ridge least squares to what its nodes are in the dense model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tsdistill.pruning.compensate import ReadingWeight
from tsdistill.runtime.calls import Call
from tsdistill.statistics.unfold import channel_dim, fan_in_rows, output_rows

_STEEP = 1e-4
"""Part of the largest slope below which an entry is not fitted: dividing by its slope would amplify
rounding."""


class Rows(NamedTuple):
    """Rows of one batch.

    Attributes:
        x: ``[groups, n, F]``, what the weight is multiplied with.
        now: ``[n, O]``, the nodes as they are, behind the chain that follows the layer.
        wanted: ``[n, O]``, the nodes as they should be there.
        slope: ``[n, O]``, what the chain multiplies the layer's output with.
    """

    x: Tensor
    now: Tensor
    wanted: Tensor
    slope: Tensor


class FanIn:
    """The least-squares problem of one layer, taken in batch by batch; half of each batch checks the other.

    Args:
        module: a linear layer or a convolution.
        sink: takes a constant ``[O]`` to be added to the layer's output; ``None`` where there is none.
        aim: ``aim(now, wanted)``, how far each value is to move.
        turns: how often the aim is renewed.
    """

    def __init__(
        self,
        module: nn.Module,
        sink: Callable[[Tensor], None] | None,
        aim: Callable[[Tensor, Tensor], Tensor],
        turns: int,
    ) -> None:
        self._module, self._sink, self._aim, self._turns = module, sink, aim, turns
        self._halves: tuple[list[Rows], list[Rows]] = ([], [])

    def add(self, x: Tensor, now: Tensor, wanted: Tensor, slope: Tensor, places: Tensor) -> None:
        """Take in a batch: the layer's input, and maps shaped as its output, at the positions ``places``."""
        dim = channel_dim(self._module)
        middle = (x.shape[0] + 1) // 2
        for half, part in zip(self._halves, (slice(0, middle), slice(middle, None)), strict=True):
            if x[part].shape[0]:
                maps = (output_rows(each[part], dim, places) for each in (now, wanted, slope))
                half.append(Rows(fan_in_rows(self._module, x[part], places), *maps))

    def fit(self) -> bool:
        """Move the weight (and the constant) so that the nodes come to what is wanted.

        Returns:
            whether anything moved; nothing does where samples that the fit has not seen would be worse off.
        """
        every = [*self._halves[0], *self._halves[1]]
        groups = every[0].x.shape[0]
        none = every[0].x[:, :0]
        first, second = (torch.cat([none, *(rows.x for rows in half)], 1) for half in self._halves)
        now = torch.cat([rows.now for rows in every])
        wanted = torch.cat([rows.wanted for rows in every])
        slope = torch.cat([rows.slope for rows in every])
        for half in self._halves:
            half.clear()
        steep = slope.abs() > _STEEP * slope.abs().amax()
        divisor = torch.where(steep, slope, torch.ones_like(slope))
        moved = torch.zeros_like(now)
        ridge = None
        problem = Ridge((first, second), self._sink is not None)
        for _ in range(self._turns):
            step = self._aim(now + slope * moved, wanted)
            target = _by_group(torch.where(steep, moved + step / divisor, moved), groups)
            if ridge is None:
                ridge = problem.choose(target)
            if ridge is None:
                return False
            delta, constant = problem.solve(target, ridge)
            narrow = delta.to(now.dtype)
            moved = torch.cat([first @ narrow, second @ narrow], 1)
            moved = (moved + constant.to(now.dtype) if self._sink else moved).transpose(0, 1).flatten(1)
        weight = ReadingWeight(self._module)
        weight.blocks += delta.transpose(1, 2).reshape(weight.blocks.shape).cpu()
        weight.write()
        if self._sink is not None:
            self._sink(constant.reshape(-1))
        return True


def _by_group(rows: Tensor, groups: int) -> Tensor:
    return rows.reshape(len(rows), groups, -1).transpose(0, 1)


_FLAT_BELOW = {"relu": 0.0, "relu_": 0.0, "relu6": 0.0, "gelu": -3.0, "silu": -6.0, "hardswish": -3.0}
"""Activation -> the value below which it is constant, or so close to it that its derivative is below 0.02."""


def straight(now: Tensor, wanted: Tensor) -> Tensor:
    """The difference itself, for a layer without a non-linearity."""
    return wanted - now


def activation_target(activation: Call | None) -> Callable[[Tensor, Tensor], Tensor]:
    """The change of a value ``(now, wanted)`` when only the value after the non-linearity ``activation``
    counts.

    Where the wanted value lies on a flat stretch of it (below 0 of a ReLU), it is enough to reach it: the
    majorise-minimise step of the squared error after the non-linearity, the curvature taken as 1.
    """
    if activation is None:
        return straight
    low, high = -float("inf"), float("inf")
    if activation.name in ("hardtanh", "hardtanh_"):
        bounds = [*activation.args[1:3], activation.kwargs.get("min_val"), activation.kwargs.get("max_val")]
        low, high = [value for value in bounds if value is not None][:2] if bounds else (-1.0, 1.0)
    elif activation.name in _FLAT_BELOW:
        low = _FLAT_BELOW[activation.name]
        high = 6.0 if activation.name == "relu6" else high

    def aim(now: Tensor, wanted: Tensor) -> Tensor:
        goal = torch.where(wanted <= low, now.clamp(max=low), wanted)
        goal = torch.where(wanted >= high, now.clamp(min=high), goal)
        return goal - now

    return aim


RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridges that compete, relative to the variance of each entry of the input."""


UNSEEN = 1e-1
"""The ridge where there are too few samples to try one on others."""


_WIDE = 2048
"""Entries of the input above which only the middle ridges are tried, on one half: each trial is a Cholesky
factorisation of that size."""


@dataclass(frozen=True, eq=False)
class _Half:
    """Rows ``x [groups, n, F]`` of one half of the samples, their mean and centred Gram matrix."""

    x: Tensor
    mean: Tensor
    gram: Tensor

    @property
    def rows(self) -> int:
        return self.x.shape[1]

    def cross(self, target: Tensor, mean: Tensor) -> Tensor:
        """Centred ``Xᵀ T [groups, F, O]`` in float64."""
        return ((self.x - self.mean).transpose(1, 2) @ (target - mean)).double()


class Ridge:
    """``min_Δ ‖X Δ + c − T‖² + λ n Σ_f var(X_f) ‖Δ_f‖²`` for several T on the same X.

    Args:
        x: rows of the two halves, float32 ``[groups, n, F]`` each; the samples of one are not in the other.
        constant: whether the constant c is fitted; without it nothing is centred.
    """

    def __init__(self, x: tuple[Tensor, Tensor], constant: bool) -> None:
        self._constant = constant
        self._halves = [self._half(part) for part in x if part.shape[1]]
        self.rows = sum(half.rows for half in self._halves)
        self.mean = self._halves[0].mean
        self._gram = self._halves[0].gram
        if len(self._halves) == 2:
            first, second = self._halves
            self.mean = (first.rows * first.mean + second.rows * second.mean) / self.rows
            apart = (first.mean - second.mean).double()
            self._gram = first.gram + second.gram + self._between * (apart.transpose(1, 2) @ apart)
        scale = self._gram.diagonal(dim1=-2, dim2=-1)
        largest = scale.amax(-1, keepdim=True)
        self._scale = torch.where(scale > 1e-10 * largest, scale, largest).clamp_min(1e-30)
        self._factor: tuple[float, Tensor] | None = None

    def choose(self, target: Tensor) -> float | None:
        """The ridge that predicts samples best that the fit has not seen.

        Args:
            target: ``[groups, n, O]``, the rows of the first half first.

        Returns:
            a ridge, or ``None`` when not moving at all predicts better than any.
        """
        if len(self._halves) < 2:
            return UNSEEN
        wide = self._scale.shape[-1] > _WIDE
        targets = self._split(target)
        crosses = [half.cross(t, self._centre(t)) for half, t in zip(self._halves, targets, strict=True)]
        errors = {}
        for ridge in RIDGES[1:4] if wide else RIDGES:
            errors[ridge] = 0.0
            for fit, check in ((0, 1),) if wide else ((0, 1), (1, 0)):
                share = self._halves[fit].rows / self.rows
                moved = torch.cholesky_solve(
                    crosses[fit], _factor(self._halves[fit].gram, ridge * share * self._scale)
                )
                gain = moved * (self._halves[check].gram @ moved - 2 * crosses[check])
                errors[ridge] += float(gain.sum())
        best = min(errors, key=lambda ridge: errors[ridge])
        return best if errors[best] < 0 else None

    def solve(self, target: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        """Δ ``[groups, F, O]`` and c ``[groups, 1, O]``, in float64, from all rows."""
        if self._factor is None or self._factor[0] != ridge:
            self._factor = ridge, _factor(self._gram, ridge * self._scale)
        targets = self._split(target)
        means = [self._centre(t) for t in targets]
        cross = sum(
            (half.cross(t, mean) for half, t, mean in zip(self._halves, targets, means, strict=True)),
            start=torch.zeros((), dtype=torch.float64, device=target.device),
        )
        if len(means) == 2:
            first, second = self._halves
            apart = (first.mean - second.mean).double().transpose(1, 2)
            cross = cross + self._between * (apart @ (means[0] - means[1]).double())
        delta = torch.cholesky_solve(cross, self._factor[1])
        return delta, self._centre(target).double() - self.mean.double() @ delta

    @property
    def _between(self) -> float:
        first, second = self._halves
        return first.rows * second.rows / self.rows

    def _half(self, x: Tensor) -> _Half:
        mean = self._centre(x)
        centred = x - mean
        return _Half(x, mean, (centred.transpose(1, 2) @ centred).double())

    def _centre(self, rows: Tensor) -> Tensor:
        mean = rows.mean(1, keepdim=True)
        return mean if self._constant else torch.zeros_like(mean)

    def _split(self, target: Tensor) -> list[Tensor]:
        return list(target.split([half.rows for half in self._halves], dim=1))


def _factor(gram: Tensor, ridge: Tensor) -> Tensor:
    """Cholesky factor of ``gram`` with a ridge on its diagonal, a larger one when rounding asks for it."""
    for more in (0.0, 1e-6, 1e-3, 1.0):
        damped = gram + torch.diag_embed(ridge + more * gram.diagonal(dim1=-2, dim2=-1))
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not bool(failed.any()):
            break
    return factor
