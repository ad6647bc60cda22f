"""scikit-learn's digits."""

from __future__ import annotations

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor


@cache
def digits(count: int | None = None) -> tuple[Tensor, Tensor]:
    """The first ``count`` of 1,797 images ``[count, 1, 8, 8]`` in [0, 1], and their labels."""
    data = load_digits()
    return torch.from_numpy(data.images).float()[:count, None] / 16, torch.from_numpy(data.target).long()[
        :count
    ]
