"""Stored activations, and their moments straight from the definition."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from tsdistill.statistics.moments import Moments

seeds = st.integers(0, 10_000)
scales = st.lists(st.floats(0.01, 100), min_size=5, max_size=5)


def moments(s: Tensor, t: Tensor, products: torch.dtype = torch.float64) -> Moments:
    """Everything that a metric may ask of ``s [n, S]`` and ``t [n, T]``, multiplied in that precision."""
    s, t = s.double(), t.double()
    mean_s, mean_t = s.mean(0), t.mean(0)
    s, t = (s - mean_s).to(products), (t - mean_t).to(products)
    squares = s.square().sum(0).double(), t.square().sum(0).double()
    return Moments(
        len(s), mean_s, mean_t, *squares, (s.T @ t).double(), (s.T @ s).double(), (t.T @ t).double()
    )


def related(seed: int, rows: int = 200) -> tuple[Tensor, Tensor]:
    """Rectified float64 activations of five student and three teacher nodes with much in common."""
    generator = torch.Generator().manual_seed(seed)
    s = torch.relu(torch.randn(rows, 5, generator=generator, dtype=torch.float64) + 0.3)
    mix = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    return s, torch.relu(s[:, :4] @ mix + 0.2 * noise)


def orthogonal(seed: int, size: int) -> Tensor:
    """A random orthogonal map ``[size, size]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
