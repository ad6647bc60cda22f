"""Ridge regression for re-alignment: its ridge is chosen on samples that are not fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridges that compete, relative to the variance of each entry of the input."""


_FIRST = 2
"""Index of the ridge that is tried first. Its neighbours follow while they predict better: the error is a
smooth function of the ridge with one minimum."""


UNSEEN = 1e-1
"""The ridge where there are too few samples to try one on others."""


_WIDE = 2048
"""Entries of the input (or rows, where those are fewer) above which only the middle ridges are tried, on one
half: each trial is a Cholesky factorisation of that size."""


class RidgeRegression(ABC):
    """``min_Δ ‖X Δ + c − T‖² + λ n Σ_f var(X_f) ‖Δ_f‖²`` for several T on the same X.

    Args:
        x: rows of the two halves, float32 ``[groups, n, F]`` each, which are centred in place; the samples of
            one are not in the other.
        constant: whether the constant c is fitted; without it nothing is centred.

    Attributes:
        ridge: λ.
        rows: n of both halves.
        judges: whether both halves have rows.
        wide: whether few ridges are tried, on one half.
    """

    def __init__(self, x: Sequence[Tensor], constant: bool) -> None:
        self._constant = constant
        self.ridge = UNSEEN
        self.rows = sum(part.shape[1] for part in x)
        self.judges = all(part.shape[1] for part in x)
        self.wide = min(self.rows, x[0].shape[2]) > _WIDE

    @abstractmethod
    def set_target(self, target: Tensor) -> None:
        """Take ``target [groups, n, O]``, the rows of the first half first, as T."""

    def choose(self) -> float | None:
        """Choose the ridge that predicts samples best that the fit has not seen.

        Returns:
            the ridge, or ``None`` when not moving at all predicts better than any.
        """
        if not self.judges:
            return self.ridge
        errors: dict[int, float] = {}
        lowest, highest = (1, 3) if self.wide else (0, len(RIDGES) - 1)
        best, step = _FIRST, 0
        errors[best] = self._unseen_error(RIDGES[best])
        for step in (-1, 1):
            while lowest <= best + step <= highest and best + step not in errors:
                errors[best + step] = self._unseen_error(RIDGES[best + step])
                if errors[best + step] >= errors[best]:
                    break
                best += step
        self.ridge = RIDGES[best]
        return self.ridge if errors[best] < 0 else None

    @abstractmethod
    def _unseen_error(self, ridge: float) -> float:
        """Squared error on each half of the fit to the other, less that of not moving; in float32."""

    @abstractmethod
    def solve(self) -> tuple[Tensor, Tensor]:
        """Δ ``[groups, F, O]`` and c ``[groups, 1, O]``, in float64, from all rows."""

    @abstractmethod
    def predict(self, delta: Tensor) -> Tensor:
        """``X Δ + c`` in float32, the rows of the first half first."""

    def _centre(self, rows: Tensor) -> Tensor:
        mean = rows.mean(1, keepdim=True)
        return mean if self._constant else torch.zeros_like(mean)


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


class Ridge(RidgeRegression):
    """The problem by normal equations ``[F, F]``."""

    def __init__(self, x: Sequence[Tensor], constant: bool) -> None:
        super().__init__(x, constant)
        self._halves = [self._half(part) for part in x if part.shape[1]]
        self._mean = self._mean_of([half.mean for half in self._halves])
        self._gram = self._halves[0].gram
        if len(self._halves) == 2:
            apart = (self._halves[0].mean - self._halves[1].mean).double()
            self._gram = self._gram + self._halves[1].gram + self._between * (apart.transpose(1, 2) @ apart)
        self._scale = _positive(self._gram.diagonal(dim1=-2, dim2=-1))
        self._factor: Tensor | None = None

    def set_target(self, target: Tensor) -> None:
        """Take the rows of T."""
        parts = target.split([half.rows for half in self._halves], dim=1)
        for half, part in zip(self._halves, parts, strict=True):
            half.target_mean = self._centre(part)
            half.cross = (half.x.transpose(1, 2) @ part).double()

    def _unseen_error(self, ridge: float) -> float:
        error = 0.0
        for fit, check in ((0, 1),) if self.wide else ((0, 1), (1, 0)):
            fitted, unseen = self._halves[fit], self._halves[check]
            share = fitted.rows / self.rows
            factor = _factor(fitted.gram.float(), (ridge * share * self._scale).float())
            moved = torch.cholesky_solve(fitted.cross.float(), factor)
            error += float((moved * (unseen.gram.float() @ moved - 2 * unseen.cross.float())).double().sum())
        return error

    def solve(self) -> tuple[Tensor, Tensor]:
        """Δ and c."""
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
        """``X Δ + c``."""
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


class DualRidge(RidgeRegression):
    """The problem by the kernel of its rows, ``[n, n]``: cheaper where a layer has more entries than rows.

    With ``Z = X S^(-1/2)`` and S the scale of the ridge, ``Δ = S⁻¹ Xᵀ (Z Zᵀ + λ I)⁻¹ T`` (Saunders, Gammerman
    and Vovk, 1998, "Ridge regression learning algorithm in dual variables").
    """

    def __init__(self, x: Sequence[Tensor], constant: bool) -> None:
        super().__init__(x, constant)
        self._first = x[0].shape[1]
        rows = torch.cat(list(x), 1)
        self._mean = self._centre(rows)
        rows -= self._mean
        scale = _positive(rows.square().sum(1, keepdim=True).double()).to(rows.dtype)
        self._rows, self._scaled = rows, rows / scale
        self._kernel = (self._scaled @ rows.transpose(1, 2)).double()
        self._factor: Tensor | None = None

    def set_target(self, target: Tensor) -> None:
        """Take the rows of T."""
        self._target_mean = self._centre(target)
        self._target = (target - self._target_mean).double()

    def _unseen_error(self, ridge: float) -> float:
        halves = slice(0, self._first), slice(self._first, None)
        kernel, target, error = self._kernel.float(), self._target.float(), 0.0
        for fit, check in (halves,) if self.wide else (halves, halves[::-1]):
            inner = kernel[:, fit, fit]
            damping = torch.full_like(inner[..., 0], ridge * inner.shape[1] / self.rows)
            weights = torch.cholesky_solve(target[:, fit], _factor(inner, damping))
            predicted = kernel[:, check, fit] @ weights
            error += float((predicted * (predicted - 2 * target[:, check])).double().sum())
        return error

    def solve(self) -> tuple[Tensor, Tensor]:
        """Δ and c."""
        if self._factor is None:
            self._factor = _factor(self._kernel, torch.full_like(self._kernel[..., 0], self.ridge))
        weights = torch.cholesky_solve(self._target, self._factor)
        delta = self._scaled.transpose(1, 2).double() @ weights
        return delta, self._target_mean.double() - self._mean.double() @ delta

    def predict(self, delta: Tensor) -> Tensor:
        """``X Δ + c``."""
        return self._rows @ delta.float() + self._target_mean


def ridge_regression(x: Sequence[Tensor], constant: bool) -> RidgeRegression:
    """The cheaper form of the problem (see `RidgeRegression` for the arguments)."""
    rows, entries = sum(part.shape[1] for part in x), x[0].shape[2]
    return DualRidge(x, constant) if rows < entries else Ridge(x, constant)


def _positive(scale: Tensor) -> Tensor:
    """``scale [groups, ..., F]``, in place of what is zero or rounding the largest of the group."""
    largest = scale.amax(-1, keepdim=True)
    return torch.where(scale > 1e-10 * largest, scale, largest).clamp_min(1e-30)


def _factor(gram: Tensor, ridge: Tensor) -> Tensor:
    """Cholesky factor of ``gram`` with a ridge on its diagonal, a larger one when rounding asks for it."""
    for more in (0.0, 1e-6, 1e-3, 1.0):
        damped = gram + torch.diag_embed(ridge + more * gram.diagonal(dim1=-2, dim2=-1))
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not bool(failed.any()):
            break
    return factor
