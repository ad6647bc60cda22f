"""Linear prediction from correlations: scale, shrinkage, share of variance explained."""

from __future__ import annotations

import numpy as np
import torch

from tsdistill.errors import TsdistillError

RIDGE = 1e-3
"""Smallest ridge on a correlation matrix, as a part of its unit diagonal: well above the error of float32
sums."""

_WIDE = 512
"""Nodes above which a matrix is inverted in float32: there the time of an inversion in float64 is felt."""

_TAME = 1e-2
"""Ridge from which float32 suffices: the condition number is then at most the number of nodes times 100."""

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


LOWEST = 0.5
"""Share of variance explained below which elimination ends: a node that is predicted worse than that is
not redundant."""


_ALIKE = 1e4
"""Largest entry of the inverse correlation that counts: nodes above it are copies of one another, and
ties are broken by strength."""


_BLOCK = 128
"""Nodes that leave between two updates of the whole inverse: 128 columns make an efficient matrix product."""


def elimination_r2(
    correlation: np.ndarray,
    removed: np.ndarray,
    rows: int,
    strengths: np.ndarray,
    precision: np.ndarray | None = None,
) -> np.ndarray:
    """Share of its variance that the nodes still there explain at the moment a node leaves.

    One after the other, whichever node is explained best leaves (backward elimination). What is returned
    never rises along that order, so nodes at or above any threshold can all leave together.

    Args:
        correlation: ``[n, n]``.
        removed: bool ``[n]``, nodes that have left already.
        rows: samples behind the correlations; with no more than two a node only single predictors count.
        strengths: ``[n]``; among nodes that are explained alike (to 99.99 % and more) the weakest leaves
            first.
        precision: what `precision_of` says of the correlations, where that is known.

    Returns:
        float64 ``[n]`` in [0, 1]: 1 for nodes that are gone, 0 for those that do not vary or are never
        explained to a half.
    """
    shares = np.where(removed, 1.0, 0.0)
    stay = np.flatnonzero(~removed & (np.diag(correlation) > 0))
    if stay.size < 2:
        return shares
    if rows <= 2 * stay.size:
        _by_pairs(correlation, stay, strengths, shares)
    else:
        if precision is None:
            precision = ridged_inverse(correlation[np.ix_(stay, stay)])
        else:
            precision = downdate(precision, np.flatnonzero(removed[np.diag(correlation) > 0]))
        _by_all(precision, stay, strengths, shares)
    return shares


def _by_all(precision: np.ndarray, stay: np.ndarray, strengths: np.ndarray, shares: np.ndarray) -> None:
    """Backward elimination on the inverse: 1/P_kk is what the others leave unexplained of node k.

    A node that leaves takes a matrix of rank one off the inverse. These are kept as columns, from which the
    diagonal and the column of the next node follow, and taken off together.
    """
    last = 1.0
    left, here = np.diag(precision).copy(), np.ones(stay.size, dtype=bool)
    columns, number = np.zeros((stay.size, _BLOCK)), 0
    for _ in range(stay.size - 1):
        figures = np.where(here, np.minimum(left, _ALIKE), -np.inf)
        ties = np.flatnonzero(figures >= figures.max() * (1 - 1e-9))
        index = int(ties[np.argmin(strengths[stay[ties]])])
        last = min(last, max(0.0, 1 - 1 / max(float(left[index]), 1.0)))
        if last < LOWEST:
            return
        shares[stay[index]] = last
        here[index] = False
        column = precision[index] - columns[:, :number] @ columns[index, :number]
        column /= np.sqrt(column[index])
        left -= np.square(column)
        columns[:, number], number = column, number + 1
        if number == _BLOCK:
            stay, columns = stay[here], columns[here]
            precision = precision[here][:, here] - columns @ columns.T
            left, here, number = np.diag(precision).copy(), np.ones(stay.size, dtype=bool), 0


def _by_pairs(correlation: np.ndarray, stay: np.ndarray, strengths: np.ndarray, shares: np.ndarray) -> None:
    """The most alike pair first; of a pair the less worthy leaves, unless one of them has left before."""
    squares = np.square(correlation[np.ix_(stay, stay)])
    rows, columns = np.nonzero(np.triu(squares >= LOWEST, 1))
    order = np.argsort(-squares[rows, columns], kind="stable")
    here = np.ones(stay.size, dtype=bool)
    for a, b in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if here[a] and here[b]:
            leaves = a if strengths[stay[a]] < strengths[stay[b]] else b
            here[leaves] = False
            shares[stay[leaves]] = min(1.0, squares[a, b])
