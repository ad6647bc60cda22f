"""Likeness of whole groups, whatever basis their nodes are in: linear CKA, CCA and SVCCA."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tsdistill.statistics.moments import Moments

CUTOFF = 1e-6
"""Share of the largest eigenvalue at or below which a direction counts as rounding."""

VARIANCE_KEPT = 0.99
"""Share of each side's variance that the principal directions of SVCCA hold."""


class LinearCKA:
    """Linear centred kernel alignment: ``‖C_st‖² / (‖C_ss‖ ‖C_tt‖)``, Frobenius norms of the covariances.

    In [0, 1]; the same under orthogonal maps and isotropic scaling of either side, not under rescaling of
    single nodes, so that nodes of large variance count most (Kornblith et al. 2019, "Similarity of Neural
    Network Representations Revisited", arXiv 1905.00414, section 3). 0 where a side does not vary. With fewer
    samples than nodes the plain estimate, which this is, comes out too high.
    """

    name = "cka"
    wants = "covariances"

    def from_moments(self, moments: Moments) -> Tensor:
        """One figure in [0, 1], 0-dim."""
        within_s, across, within_t = _covariances(moments)
        if not across.numel():
            return _nothing()
        score = across / within_s.norm().sqrt() / within_t.norm().sqrt()
        return score.square().sum().clamp(0.0, 1.0)


class CCA:
    """Mean canonical correlation: mean singular value of ``C_ss^-1/2 C_st C_tt^-1/2``.

    In [0, 1], the same under any invertible affine map of either side. Nodes are brought to unit variance
    first, nodes that do not vary left out, and of each side's directions those dropped whose eigenvalue is at
    or below 1e-6 of the largest (float32 products resolve no more); the mean is over as many canonical
    correlations as the side with fewer directions left has. 0 where a side does not vary.

    Canonical correlations are fitted, so they come out too high with few samples: unrelated groups of S and T
    directions get a mean square of max(S, T) / (n - 1) from n samples. From n - 1 < S + T on some are 1
    whatever the data; the result is NaN then, because the data cannot tell. Give ten samples a node or more,
    and more yet where samples are positions of the same images, which resemble each other.
    """

    name = "cca"
    wants = "covariances"

    def from_moments(self, moments: Moments) -> Tensor:
        """One figure in [0, 1], 0-dim; NaN with too few samples."""
        within_s, across, within_t = _covariances(moments)
        deviation_s, deviation_t = (v[v > 0].sqrt() for v in (moments.var_s(), moments.var_t()))
        white_s = _whitening(within_s / torch.outer(deviation_s, deviation_s))
        white_t = _whitening(within_t / torch.outer(deviation_t, deviation_t))
        return _mean_canonical(white_s, across / torch.outer(deviation_s, deviation_t), white_t, moments.n)


class SVCCA:
    """CCA of the principal directions that hold 99 % of the variance of each side.

    In [0, 1]; the same under orthogonal maps and isotropic scaling (Raghu et al. 2017, "SVCCA: Singular
    Vector Canonical Correlation Analysis", arXiv 1706.05806). Fewer directions than in CCA, so fewer samples
    are needed, and directions of next to no variance, which CCA counts like any other, are out. Few samples
    do to it what they do to CCA.
    """

    name = "svcca"
    wants = "covariances"

    def from_moments(self, moments: Moments) -> Tensor:
        """One figure in [0, 1], 0-dim; NaN with too few samples."""
        within_s, across, within_t = _covariances(moments)
        white_s, white_t = (_whitening(within, VARIANCE_KEPT) for within in (within_s, within_t))
        return _mean_canonical(white_s, across, white_t, moments.n)


def _covariances(moments: Moments) -> tuple[Tensor, Tensor, Tensor]:
    """C_ss, C_st and C_tt of the nodes that vary."""
    moving_s, moving_t = moments.var_s() > 0, moments.var_t() > 0
    return (
        moments.cov_s()[moving_s][:, moving_s],
        moments.cov()[moving_s][:, moving_t],
        moments.cov_t()[moving_t][:, moving_t],
    )


def _whitening(covariance: Tensor, share: float = 1.0) -> Tensor:
    """``[nodes, directions]``: maps nodes to uncorrelated directions of variance 1, largest variance first.

    As many directions as hold ``share`` of the variance, none at or below ``CUTOFF`` of the largest
    eigenvalue.
    """
    if not len(covariance):
        return covariance
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    wanted = values > CUTOFF * values[0]
    reached = values.cumsum(0) - values
    wanted &= reached < share * values.sum()
    return vectors[:, wanted] / values[wanted].sqrt()


def _mean_canonical(white_s: Tensor, across: Tensor, white_t: Tensor, n: int) -> Tensor:
    students, teachers = white_s.shape[1], white_t.shape[1]
    if not students or not teachers:
        return _nothing()
    if n - 1 < students + teachers:
        return torch.tensor(math.nan, dtype=torch.float64)
    return torch.linalg.svdvals(white_s.T @ across @ white_t).clamp(0.0, 1.0).mean()


def _nothing() -> Tensor:
    return torch.zeros((), dtype=torch.float64)
