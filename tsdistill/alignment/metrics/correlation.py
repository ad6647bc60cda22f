"""Likeness of activations from their first and second moments: correlation and cosine."""

from __future__ import annotations

import torch
from torch import Tensor

from tsdistill.statistics.moments import Moments


class Correlation:
    """Pearson correlation of the activations; 0 where a node does not vary."""

    name = "correlation"
    wants = "moments"

    def from_moments(self, moments: Moments) -> Tensor:
        """Correlations ``[S, T]`` in [-1, 1]."""
        return ratios(moments.cov(), moments.var_s(), moments.var_t())


class Cosine:
    """Cosine of the raw activations (mean included); 0 where a node is always 0."""

    name = "cosine"
    wants = "moments"

    def from_moments(self, moments: Moments) -> Tensor:
        """Cosines ``[S, T]`` in [-1, 1]."""
        mean_s, mean_t = moments.mean_s(), moments.mean_t()
        products = moments.cov() + torch.outer(mean_s, mean_t)
        return ratios(products, moments.var_s() + mean_s**2, moments.var_t() + mean_t**2)


def ratios(products: Tensor, squares_s: Tensor, squares_t: Tensor) -> Tensor:
    """``products [S, T]`` over the roots of ``squares_s [S]`` and ``squares_t [T]``, within [-1, 1].

    0 where either square is 0. One side is divided by after the other, so that nodes of very small or large
    scale neither underflow nor overflow.
    """
    rows, columns = (squares.clamp_min(0).sqrt() for squares in (squares_s, squares_t))
    defined = (rows > 0)[:, None] & (columns > 0)
    ratio = products / torch.where(rows > 0, rows, 1.0)[:, None] / torch.where(columns > 0, columns, 1.0)
    return torch.where(defined, ratio, 0.0).clamp(-1.0, 1.0)
