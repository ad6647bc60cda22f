"""Linear prediction from correlations: scale, shrinkage, share of variance explained."""

from __future__ import annotations

import numpy as np
import torch

RIDGE = 1e-3


def standardise(matrix: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Covariance ``[F, F]`` to correlation; a feature that does not vary gets zeros, on the diagonal too."""
    inverse = np.divide(1.0, std, out=np.zeros_like(std), where=std > 0)
    scaled = matrix * inverse[:, None] * inverse[None, :]
    np.fill_diagonal(scaled, (std > 0).astype(scaled.dtype))
    return scaled


def shrinkage(correlation: np.ndarray, rows: int) -> float:
    """Ridge, relative to unit variance, for a correlation matrix estimated from ``rows`` samples.

    The oracle-approximating shrinkage ρ of Chen, Wiesel, Eldar and Hero (2010, "Shrinkage algorithms for MMSE
    covariance estimation") written as a ridge ρ/(1 − ρ), and at least 1e-3. It is large when there are fewer
    samples than features, so that chance predictions are not believed.
    """
    p = correlation.shape[0]
    if p < 2:
        return RIDGE
    trace = float(np.trace(correlation))
    squares = float(np.sum(correlation**2))
    below = (rows + 1 - 2 / p) * (squares - trace**2 / p)
    if below <= 0:
        return RIDGE
    rho = min(0.9, ((1 - 2 / p) * squares + trace**2) / below)
    return max(RIDGE, rho / (1 - rho))


def inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric positive definite matrix (jittered when rounding has made it indefinite)."""
    wide = torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float64))
    jitter = 0.0
    while True:
        factor, failed = torch.linalg.cholesky_ex(wide + jitter * torch.eye(len(wide), dtype=wide.dtype))
        if not int(failed):
            return torch.cholesky_inverse(factor).numpy()
        jitter = max(1e-10, 10 * jitter)


def explained(correlation: np.ndarray, rows: int) -> np.ndarray:
    """Share of each node's variance that the best linear prediction from the other nodes explains.

    Args:
        correlation: ``[n, n]``.
        rows: number of samples it was estimated from. The share is adjusted for the number of predictors;
            with too few samples for that it is the best single predictor's.

    Returns:
        float64 ``[n]`` in [0, 1]; 0 for a node that does not vary.
    """
    n = correlation.shape[0]
    alive = np.diag(correlation) > 0
    result = np.zeros(n)
    predictors = int(alive.sum()) - 1
    if predictors < 1:
        return result
    live = correlation[np.ix_(alive, alive)]
    if rows <= 2 * (predictors + 1):
        single = np.square(live - np.eye(predictors + 1)).max(1)
        result[alive] = np.clip(single, 0, 1)
        return result
    precision = np.diag(inverse(live + 1e-7 * np.eye(predictors + 1)))
    share = 1 - 1 / precision
    share = 1 - (1 - share) * (rows - 1) / (rows - predictors - 1)
    result[alive] = np.clip(share, 0, 1)
    return result


def downdate(precision: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """The inverse of a matrix without the rows and columns ``removed``, from the inverse of the whole."""
    rest = np.setdiff1d(np.arange(precision.shape[0]), removed)
    cross = precision[np.ix_(rest, removed)]
    step = np.linalg.solve(precision[np.ix_(removed, removed)], cross.T)
    return precision[np.ix_(rest, rest)] - cross @ step
