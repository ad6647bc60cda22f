"""How alike groups are as wholes (linear CKA), and the best matching that keeps the order of depth."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

FEWEST = 4
"""Samples from which linear CKA is computed; with fewer every pair of groups looks alike."""


def centred_gram(features: Tensor) -> Tensor:
    """The U-centred Gram matrix of a group's activations, of Frobenius norm 1 (0 for constant activations).

    The inner product of two U-centred Gram matrices is n(n-3) times the unbiased estimator of HSIC (Song et
    al., "Feature Selection via Dependence Maximization", 2012, eq. 5; U-centring: Székely & Rizzo, "Partial
    Distance Correlation with Methods for Dissimilarities", 2014), so that the inner product of what is
    returned here is the linear CKA of Nguyen et al., "Do Wide and Deep Networks Learn the Same Things?",
    2021.

    Args:
        features: ``[n, F]``, n >= 4 samples in rows.

    Returns:
        float32 ``[n, n]`` (float64 stays).
    """
    n = features.shape[0]
    features = features if features.dtype == torch.float64 else features.float()
    mean = features.mean(0)
    features = features - mean
    spread = features.norm()
    resolution = 8 * torch.finfo(features.dtype).eps * mean.norm() * n**0.5
    features = features * torch.where(spread > resolution, 1 / spread, torch.zeros_like(spread))
    gram = (features @ features.T).fill_diagonal_(0)
    sums = gram.sum(0)
    gram -= (sums[:, None] + sums[None, :]) / (n - 2)
    gram += sums.sum() / ((n - 1) * (n - 2))
    gram.fill_diagonal_(0)
    size = gram.norm()
    return gram * torch.where(size > 0, 1 / size, torch.zeros_like(size))


def linear_cka(student: Iterable[Tensor], teacher: Iterable[Tensor]) -> Tensor:
    """Linear CKA of every student group with every teacher group: float32 ``[S, T]``, at most 1.

    Args:
        student: ``[n, F_s]`` of each group, F_s free; looked at one by one.
        teacher: ``[n, F_t]`` of each group, on the same samples in the same order.
    """
    grams_s = [centred_gram(features).reshape(-1) for features in student]
    grams_t = [centred_gram(features).reshape(-1) for features in teacher]
    if not grams_s or not grams_t:
        return torch.zeros(len(grams_s), len(grams_t))
    return torch.stack(grams_s) @ torch.stack(grams_t).to(grams_s[0]).T


def ordered_matching(gain: np.ndarray) -> list[tuple[int, int]]:
    """The matching of rows with columns, one to one and monotone, whose sum of gains is the largest.

    Dynamic programming over prefixes (Needleman & Wunsch, "A General Method Applicable to the Search for
    Similarities in the Amino Acid Sequence of Two Proteins", 1970) with free gaps. Only positive gains are
    taken.

    Args:
        gain: ``[S, T]``; ``-inf`` forbids a pair.

    Returns:
        Pairs ``(row, column)``, both ascending.
    """
    rows, columns = gain.shape
    best = np.zeros((rows + 1, columns + 1))
    for i in range(rows):
        diagonal = np.maximum(best[i, 1:], best[i, :-1] + gain[i])
        best[i + 1, 1:] = np.maximum.accumulate(diagonal)
    pairs = []
    i, j = rows, columns
    while i and j:
        if best[i, j] == best[i, j - 1]:
            j -= 1
        elif best[i, j] == best[i - 1, j]:
            i -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]
