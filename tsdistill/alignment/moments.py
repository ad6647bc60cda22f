"""First and second moments of a pair of groups, streamed: all that the moment metrics need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tsdistill.alignment.covariance import Covariance, accumulator_device, product


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over n samples of the nodes of a student group (S) and a teacher group (T), each shifted.

    Attributes:
        n: number of samples (positions counted).
        shift_s: float64 ``[S]``, subtracted from every sample before it was summed.
        shift_t: float64 ``[T]``.
        sum_s: float64 ``[S]``, Σ(s − shift).
        sum_t: float64 ``[T]``.
        sum_ss: float64 ``[S]``, Σ(s − shift)².
        sum_tt: float64 ``[T]``.
        sum_st: float64 ``[S, T]``, Σ(s − shift)(t − shift)ᵀ.
    """

    n: int
    shift_s: Tensor
    shift_t: Tensor
    sum_s: Tensor
    sum_t: Tensor
    sum_ss: Tensor
    sum_tt: Tensor
    sum_st: Tensor

    def mean_s(self) -> Tensor:
        """Means of the student's nodes ``[S]``."""
        return self.shift_s + self.sum_s / self.n

    def mean_t(self) -> Tensor:
        """Means of the teacher's nodes ``[T]``."""
        return self.shift_t + self.sum_t / self.n

    def var_s(self) -> Tensor:
        """Variances of the student's nodes ``[S]``."""
        return _variance(self.sum_ss, self.sum_s, self.shift_s, self.n)

    def var_t(self) -> Tensor:
        """Variances of the teacher's nodes ``[T]``."""
        return _variance(self.sum_tt, self.sum_t, self.shift_t, self.n)

    def cov(self) -> Tensor:
        """Covariances of student with teacher nodes ``[S, T]``."""
        return self.sum_st / self.n - torch.outer(self.sum_s / self.n, self.sum_t / self.n)


def _variance(squares: Tensor, sums: Tensor, shift: Tensor, n: int) -> Tensor:
    offset = sums / n
    variance = squares / n - offset**2
    floor = 1e-12 * (shift + offset) ** 2
    return torch.where(variance > floor, variance, torch.zeros_like(variance))


class RunningMoments:
    """Collects ``Moments`` batch by batch; memory S·T whatever comes."""

    def __init__(self) -> None:
        self._n = 0
        self._shifts: tuple[Tensor, Tensor] | None = None
        self._sums: list[Tensor] = []

    @property
    def seen(self) -> bool:
        """Whether any batch has come."""
        return self._n > 0

    def update(self, student: Tensor, teacher: Tensor) -> None:
        """Take in ``student [samples, S]`` and ``teacher [samples, T]`` of the same samples."""
        if student.shape[0] == 0:
            return
        teacher = teacher.to(student.device)
        if self._shifts is None:
            self._shifts = (student.mean(0), teacher.mean(0))
        s, t = student - self._shifts[0], teacher - self._shifts[1]
        device = accumulator_device(s.device)
        wide_s, wide_t = s.to(device).double(), t.to(device).double()
        batch = [wide_s.sum(0), wide_t.sum(0), (wide_s**2).sum(0), (wide_t**2).sum(0), product(s, t)]
        if self._sums:
            batch = [total + part for total, part in zip(self._sums, batch, strict=True)]
        self._sums = batch
        self._n += student.shape[0]

    def finish(self) -> Moments:
        """The moments of everything taken in (at least one batch)."""
        assert self._shifts is not None
        shift_s, shift_t = (shift.double().cpu() for shift in self._shifts)
        sum_s, sum_t, sum_ss, sum_tt, sum_st = (total.cpu() for total in self._sums)
        return Moments(self._n, shift_s, shift_t, sum_s, sum_t, sum_ss, sum_tt, sum_st)


def own_moments(covariance: Covariance, features: np.ndarray) -> Moments:
    """A group beside itself, from a site's covariance.

    Args:
        covariance: statistics of the site.
        features: int64 ``[nodes, m]``; the m features of a node count as further samples.
    """
    mean, matrix = pooled(covariance, features)
    n = covariance.rows * features.shape[1]
    shift = torch.from_numpy(mean)
    zero = torch.zeros_like(shift)
    outer = torch.from_numpy(matrix) * n
    squares = outer.diagonal().clone()
    return Moments(n, shift, shift, zero, zero, squares, squares, outer)


def pooled(covariance: Covariance, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``[nodes]`` and covariance ``[nodes, nodes]`` when the m features of a node are m samples."""
    nodes, m = features.shape
    means = covariance.mean[features]
    mean = means.mean(1)
    matrix = np.zeros((nodes, nodes))
    for column in range(m):
        index = features[:, column]
        offset = means[:, column] - mean
        matrix += covariance.matrix[np.ix_(index, index)] + np.outer(offset, offset)
    matrix /= m
    dead = (covariance.var[features] == 0).all(1) & (np.ptp(means, axis=1) == 0)
    matrix[dead] = 0.0
    matrix[:, dead] = 0.0
    return mean, matrix
