"""One layer's fan-in fitted by ridge least squares to what its nodes are in the dense model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        problem = Ridge(
            [torch.cat([none, *(rows.x for rows in half)], 1) for half in self._halves],
            self._sink is not None,
        )
        now = torch.cat([rows.now for rows in every])
        wanted = torch.cat([rows.wanted for rows in every])
        slope = torch.cat([rows.slope for rows in every])
        for half in self._halves:
            half.clear()
        steep = slope.abs() > _STEEP * slope.abs().amax()
        divisor = torch.where(steep, slope, torch.ones_like(slope))
        moved = torch.zeros_like(now)
        for turn in range(self._turns):
            step = self._aim(now + slope * moved, wanted)
            problem.set_target(_by_group(torch.where(steep, moved + step / divisor, moved), groups))
            if turn == 0 and problem.choose() is None:
                return False
            delta, constant = problem.solve()
            if turn + 1 < self._turns:
                moved = problem.predict(delta).transpose(0, 1).flatten(1)
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


_FIRST = 2
"""Index of the ridge that is tried first. Its neighbours follow while they predict better: the error is a
smooth function of the ridge with one minimum."""


UNSEEN = 1e-1
"""The ridge where there are too few samples to try one on others."""


_WIDE = 2048
"""Entries of the input above which only the middle ridges are tried, on one half: each trial is a Cholesky
factorisation of that size."""


@dataclass(eq=False)
class _Half:
    """One half of the samples.

    Attributes:
        x: centred rows ``[groups, n, F]``.
        mean: what they were centred by, ``[groups, 1, F]``; zeros where no constant is fitted.
        gram: ``xᵀ x`` in float64.
        target_mean: the mean of the target's rows; zeros where no constant is fitted.
        cross: ``xᵀ target`` in float64.
    """

    x: Tensor
    mean: Tensor
    gram: Tensor
    target_mean: Tensor
    cross: Tensor

    @property
    def rows(self) -> int:
        return self.x.shape[1]


class Ridge:
    """``min_Δ ‖X Δ + c − T‖² + λ n Σ_f var(X_f) ‖Δ_f‖²`` for several T on the same X.

    Args:
        x: rows of the two halves, float32 ``[groups, n, F]`` each, which are centred in place; the samples of
            one are not in the other.
        constant: whether the constant c is fitted; without it nothing is centred.

    Attributes:
        ridge: λ.
    """

    def __init__(self, x: Sequence[Tensor], constant: bool) -> None:
        self._constant = constant
        self._halves = [self._half(part) for part in x if part.shape[1]]
        self.rows = sum(half.rows for half in self._halves)
        self.ridge = UNSEEN
        self._mean = self._mean_of([half.mean for half in self._halves])
        self._gram = self._halves[0].gram
        if len(self._halves) == 2:
            apart = (self._halves[0].mean - self._halves[1].mean).double()
            self._gram = self._gram + self._halves[1].gram + self._between * (apart.transpose(1, 2) @ apart)
        scale = self._gram.diagonal(dim1=-2, dim2=-1)
        largest = scale.amax(-1, keepdim=True)
        self._scale = torch.where(scale > 1e-10 * largest, scale, largest).clamp_min(1e-30)
        self._factor: Tensor | None = None

    def set_target(self, target: Tensor) -> None:
        """Take ``target [groups, n, O]``, the rows of the first half first, as T."""
        parts = target.split([half.rows for half in self._halves], dim=1)
        for half, part in zip(self._halves, parts, strict=True):
            half.target_mean = self._centre(part)
            half.cross = (half.x.transpose(1, 2) @ part).double()

    def choose(self) -> float | None:
        """Choose the ridge that predicts samples best that the fit has not seen.

        Returns:
            the ridge, or ``None`` when not moving at all predicts better than any.
        """
        if len(self._halves) < 2:
            return self.ridge
        wide = self._scale.shape[-1] > _WIDE
        errors: dict[int, float] = {}
        lowest, highest = (1, 3) if wide else (0, len(RIDGES) - 1)
        best, step = _FIRST, 0
        errors[best] = self._unseen_error(RIDGES[best], wide)
        for step in (-1, 1):
            while lowest <= best + step <= highest and best + step not in errors:
                errors[best + step] = self._unseen_error(RIDGES[best + step], wide)
                if errors[best + step] >= errors[best]:
                    break
                best += step
        self.ridge = RIDGES[best]
        return self.ridge if errors[best] < 0 else None

    def _unseen_error(self, ridge: float, one_way: bool) -> float:
        """Squared error on each half of the fit to the other, less that of not moving; in float32."""
        error = 0.0
        for fit, check in ((0, 1),) if one_way else ((0, 1), (1, 0)):
            fitted, unseen = self._halves[fit], self._halves[check]
            share = fitted.rows / self.rows
            factor = _factor(fitted.gram.float(), (ridge * share * self._scale).float())
            moved = torch.cholesky_solve(fitted.cross.float(), factor)
            error += float((moved * (unseen.gram.float() @ moved - 2 * unseen.cross.float())).double().sum())
        return error

    def solve(self) -> tuple[Tensor, Tensor]:
        """Δ ``[groups, F, O]`` and c ``[groups, 1, O]``, in float64, from all rows."""
        if self._factor is None:
            self._factor = _factor(self._gram, self.ridge * self._scale)
        cross = self._halves[0].cross
        if len(self._halves) == 2:
            first, second = self._halves
            apart = (first.mean - second.mean).double().transpose(1, 2)
            target_apart = (first.target_mean - second.target_mean).double()
            cross = cross + second.cross + self._between * (apart @ target_apart)
        delta = torch.cholesky_solve(cross, self._factor)
        return delta, self._target_mean().double() - self._mean.double() @ delta

    def predict(self, delta: Tensor) -> Tensor:
        """``X Δ + c`` in float32, the rows of the first half first."""
        narrow = delta.float()
        offset = self._target_mean()
        return torch.cat(
            [half.x @ narrow + ((half.mean - self._mean) @ narrow + offset) for half in self._halves], 1
        )

    def _target_mean(self) -> Tensor:
        return self._mean_of([half.target_mean for half in self._halves])

    def _mean_of(self, means: list[Tensor]) -> Tensor:
        parts = zip(self._halves, means, strict=True)
        return torch.stack([half.rows / self.rows * mean for half, mean in parts]).sum(0)

    @property
    def _between(self) -> float:
        first, second = self._halves
        return first.rows * second.rows / self.rows

    def _half(self, x: Tensor) -> _Half:
        mean = self._centre(x)
        if self._constant:
            x -= mean
        return _Half(x, mean, (x.transpose(1, 2) @ x).double(), mean, mean)

    def _centre(self, rows: Tensor) -> Tensor:
        mean = rows.mean(1, keepdim=True)
        return mean if self._constant else torch.zeros_like(mean)


def _factor(gram: Tensor, ridge: Tensor) -> Tensor:
    """Cholesky factor of ``gram`` with a ridge on its diagonal, a larger one when rounding asks for it."""
    for more in (0.0, 1e-6, 1e-3, 1.0):
        damped = gram + torch.diag_embed(ridge + more * gram.diagonal(dim1=-2, dim2=-1))
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not bool(failed.any()):
            break
    return factor
