"""In which order the nodes of a group can leave because the others explain them, and how well."""

from __future__ import annotations

import numpy as np

from tsdistill.statistics.linear_prediction import downdate, ridged_inverse

LOWEST = 0.5
_ALIKE = 1e4
_BLOCK = 128


def leaving_shares(
    correlation: np.ndarray,
    gone: np.ndarray,
    rows: int,
    worth: np.ndarray,
    precision: np.ndarray | None = None,
) -> np.ndarray:
    """Share of its variance that the nodes still there explain at the moment a node leaves.

    One after the other, whichever node is explained best leaves (backward elimination). What is returned
    never rises along that order, so nodes at or above any threshold can all leave together.

    Args:
        correlation: ``[n, n]``.
        gone: bool ``[n]``, nodes that have left already.
        rows: samples behind the correlations; with no more than two a node only single predictors count.
        worth: ``[n]``; among nodes that are explained alike (to 99.99 % and more) the least worthy leaves
            first.
        precision: what `precision_of` says of the correlations, where that is known.

    Returns:
        float64 ``[n]`` in [0, 1]: 1 for nodes that are gone, 0 for those that do not vary or are never
        explained to a half.
    """
    shares = np.where(gone, 1.0, 0.0)
    stay = np.flatnonzero(~gone & (np.diag(correlation) > 0))
    if stay.size < 2:
        return shares
    if rows <= 2 * stay.size:
        _by_pairs(correlation, stay, worth, shares)
    else:
        if precision is None:
            precision = ridged_inverse(correlation[np.ix_(stay, stay)])
        else:
            precision = downdate(precision, np.flatnonzero(gone[np.diag(correlation) > 0]))
        _by_all(precision, stay, worth, shares)
    return shares


def _by_all(precision: np.ndarray, stay: np.ndarray, worth: np.ndarray, shares: np.ndarray) -> None:
    """Backward elimination on the inverse: 1/P_kk is what the others leave unexplained of node k.

    A block of the best explained is worked through before the inverse is brought up to date: the figures of
    nodes outside the block can only fall meanwhile, so those that were read bound them from above.
    """
    last = 1.0
    while stay.size > 1:
        standing = np.minimum(np.diag(precision), _ALIKE)
        ranked = np.lexsort((worth[stay], -standing))
        block = ranked[: min(_BLOCK, stay.size - 1)]
        outside = standing[ranked[len(block)]] if len(block) < stay.size else 0.0
        inner = precision[np.ix_(block, block)]
        left: list[int] = []
        while len(left) < len(block):
            figures = np.minimum(np.diag(inner), _ALIKE)
            figures[left] = -np.inf
            top = figures.max()
            if left and top < outside:
                break
            ties = np.flatnonzero(figures >= top * (1 - 1e-9))
            index = int(ties[np.argmin(worth[stay[block[ties]]])])
            last = min(last, max(0.0, 1 - 1 / max(float(inner[index, index]), 1.0)))
            if last < LOWEST:
                break
            shares[stay[block[index]]] = last
            left.append(index)
            column = inner[:, index].copy()
            inner = inner - np.outer(column, column) / column[index]
        if left:
            local = block[left]
            precision, stay = downdate(precision, local), np.delete(stay, local)
        if last < LOWEST:
            return


def _by_pairs(correlation: np.ndarray, stay: np.ndarray, worth: np.ndarray, shares: np.ndarray) -> None:
    """The most alike pair first; of a pair the less worthy leaves, unless one of them has left before."""
    squares = np.square(correlation[np.ix_(stay, stay)])
    rows, columns = np.nonzero(np.triu(squares >= LOWEST, 1))
    order = np.argsort(-squares[rows, columns], kind="stable")
    here = np.ones(stay.size, dtype=bool)
    for a, b in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if here[a] and here[b]:
            leaves = a if worth[stay[a]] < worth[stay[b]] else b
            here[leaves] = False
            shares[stay[leaves]] = min(1.0, squares[a, b])
