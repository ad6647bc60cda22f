"""Ridge regression whose ridge is chosen on samples that the fit has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridges that compete, relative to the variance of each entry of the input."""

UNSEEN = 1e-1
"""The ridge where there are too few samples to try one on others."""

_WIDE = 2048


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
