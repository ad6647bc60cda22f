"""Linear prediction from correlations: scale, shrinkage, share of variance explained."""

from __future__ import annotations

import numpy as np
import torch

from tsdistill.errors import TsdistillError

RIDGE = 1e-3
_WIDE = 512
_TAME = 1e-2

JITTER = 1e-7
"""Ridge, relative to unit variance, of a correlation matrix that is to be inverted as it is: rounding of the
sums leaves features that are copies of one another no smaller eigenvalue."""


def standardise(matrix: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Covariance ``[F, F]`` to correlation; a feature that does not vary gets zeros, on the diagonal too."""
    inverse = np.divide(1.0, std, out=np.zeros_like(std), where=std > 0)
    scaled = matrix * inverse
    scaled *= inverse[:, None]
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
    squares = float(np.vdot(correlation, correlation))
    below = (rows + 1 - 2 / p) * (squares - trace**2 / p)
    if below <= 0:
        return RIDGE
    rho = min(0.9, ((1 - 2 / p) * squares + trace**2) / below)
    return max(RIDGE, rho / (1 - rho))


def inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric positive definite matrix (jittered when rounding has made it indefinite).

    Raises:
        TsdistillError: an entry is NaN or infinite, for which no jitter helps.
    """
    wide = torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float64))
    if not bool(torch.isfinite(wide).all()):
        raise TsdistillError(
            "statistics of the activations are not finite (NaN or infinity); check the scale of the data and "
            "the weights"
        )
    jitter = 0.0
    while True:
        factor, failed = torch.linalg.cholesky_ex(wide + jitter * torch.eye(len(wide), dtype=wide.dtype))
        if not int(failed):
            return torch.cholesky_inverse(factor).numpy()
        jitter = max(1e-10, 10 * jitter)


def ridged_inverse(correlation: np.ndarray, ridge: float = JITTER, *, double: bool = False) -> np.ndarray:
    """Inverse of ``correlation + ridge · I``; in single precision above 512 features where the ridge is at
    least 1e-2 (relative to which rounding, 6e-8 of the largest eigenvalue, is small), else in double.

    With ``double`` always in double precision: for coefficients that become weights, of which an error shows
    in every output, whereas an order of features survives it.
    """
    size = len(correlation)
    if not double and size > _WIDE and ridge >= _TAME:
        matrix = torch.from_numpy(correlation.astype(np.float32))
        matrix.diagonal().add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not int(failed):
            return torch.cholesky_inverse(factor).numpy()
    matrix = torch.tensor(correlation, dtype=torch.float64)
    matrix.diagonal().add_(ridge)
    return inverse(matrix.numpy())


def precision_of(correlation: np.ndarray, rows: int) -> np.ndarray | None:
    """Inverse of the correlations of the nodes that vary; ``None`` with no more than two ``rows`` a node."""
    alive = np.diag(correlation) > 0
    count = int(alive.sum())
    if count < 2 or rows <= 2 * count:
        return None
    return ridged_inverse(correlation[np.ix_(alive, alive)])


def explained(correlation: np.ndarray, rows: int, precision: np.ndarray | None = None) -> np.ndarray:
    """Share of each node's variance that the best linear prediction from the other nodes explains.

    Args:
        correlation: ``[n, n]``.
        rows: number of samples it was estimated from. The share is adjusted for the number of predictors;
            with too few samples for that it is the best single predictor's.
        precision: what `precision_of` says, where that is known.

    Returns:
        float64 ``[n]`` in [0, 1]; 0 for a node that does not vary.
    """
    n = correlation.shape[0]
    alive = np.diag(correlation) > 0
    result = np.zeros(n)
    predictors = int(alive.sum()) - 1
    if predictors < 1:
        return result
    precision = precision_of(correlation, rows) if precision is None else precision
    if precision is None:
        live = correlation[np.ix_(alive, alive)]
        single = np.square(live - np.eye(predictors + 1)).max(1)
        result[alive] = np.clip(single, 0, 1)
        return result
    share = 1 - 1 / np.diag(precision)
    share = 1 - (1 - share) * (rows - 1) / (rows - predictors - 1)
    result[alive] = np.clip(share, 0, 1)
    return result


def downdate(precision: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """The inverse of a matrix without the rows and columns ``removed``, from the inverse of the whole."""
    if len(removed) == 0:
        return precision
    rest = np.setdiff1d(np.arange(precision.shape[0]), removed)
    cross = precision[np.ix_(rest, removed)]
    step = np.linalg.solve(precision[np.ix_(removed, removed)], cross.T)
    result = precision[rest].take(rest, 1)
    result -= cross @ step
    return result
