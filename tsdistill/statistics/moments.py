"""Means, variances and covariances of the nodes of a student group and a teacher group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tsdistill.statistics.centred_sums import RESOLUTION, CentredSums
from tsdistill.statistics.covariance import Covariance


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over n samples of the nodes of a student group (S) and a teacher group (T), each about its mean.

    Attributes:
        n: number of samples (positions counted).
        centre_s: float64 ``[S]``, means of the student's nodes.
        centre_t: float64 ``[T]``.
        squares_s: float64 ``[S]``, Σ(s − mean)².
        squares_t: float64 ``[T]``.
        products: float64 ``[S, T]``, Σ(s − mean)(t − mean)ᵀ.
        products_s: float64 ``[S, S]``, for metrics that want covariances.
        products_t: float64 ``[T, T]``, likewise.
    """

    n: int
    centre_s: Tensor
    centre_t: Tensor
    squares_s: Tensor
    squares_t: Tensor
    products: Tensor
    products_s: Tensor | None = None
    products_t: Tensor | None = None

    def mean_s(self) -> Tensor:
        """Means of the student's nodes ``[S]``."""
        return self.centre_s

    def mean_t(self) -> Tensor:
        """Means of the teacher's nodes ``[T]``."""
        return self.centre_t

    def var_s(self) -> Tensor:
        """Variances of the student's nodes ``[S]``; 0 where the deviation is below float32's resolution of
        the mean."""
        return significant_variance(self.squares_s / self.n, self.centre_s)

    def var_t(self) -> Tensor:
        """Variances of the teacher's nodes ``[T]``, likewise."""
        return significant_variance(self.squares_t / self.n, self.centre_t)

    def cov(self) -> Tensor:
        """Covariances of student with teacher nodes ``[S, T]``."""
        return self.products / self.n

    def cov_s(self) -> Tensor:
        """Covariances of the student's nodes ``[S, S]``; there for metrics that want covariances."""
        assert self.products_s is not None
        return self.products_s / self.n

    def cov_t(self) -> Tensor:
        """Covariances of the teacher's nodes ``[T, T]``, likewise."""
        assert self.products_t is not None
        return self.products_t / self.n


def significant_variance(variance: Tensor, mean: Tensor) -> Tensor:
    """``variance``, with 0 where the deviation is less than four times what float32 resolves of ``mean``."""
    return torch.where(variance > RESOLUTION * mean**2, variance, torch.zeros_like(variance))


def moments_of(sums: CentredSums) -> Moments:
    """The moments of everything that ``sums`` has taken in (at least one block of two sides)."""
    assert sums.products is not None
    own = [product.cpu() for product in sums.own]
    return Moments(
        sums.n,
        sums.means[0].cpu(),
        sums.means[1].cpu(),
        sums.squares[0].cpu(),
        sums.squares[1].cpu(),
        sums.products.cpu(),
        *own,
    )


def own_moments(covariance: Covariance, features: np.ndarray) -> Moments:
    """A group compared with itself, from a site's covariance.

    Args:
        covariance: statistics of the site.
        features: int64 ``[nodes, m]``; the m features of a node count as further samples.
    """
    mean, matrix = pooled(covariance, features)
    n = covariance.rows * features.shape[1]
    centre = torch.from_numpy(mean)
    products = torch.from_numpy(matrix) * n
    squares = products.diagonal().clone()
    return Moments(n, centre, centre, squares, squares, products, products, products)


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
