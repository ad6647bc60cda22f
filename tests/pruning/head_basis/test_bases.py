from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tsdistill.pruning.head_basis.bases import balanced


@given(seed=st.integers(0, 10**6), size=st.integers(2, 9), heads=st.integers(1, 3))
def test_both_moments_become_the_same_falling_diagonal(seed: int, size: int, heads: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def moment() -> torch.Tensor:
        x = torch.randn(heads, size, 4 * size, generator=generator, dtype=torch.float64)
        return x @ x.mT / (4 * size)

    one, other = moment(), moment()
    turn, back = balanced(one, other)
    assert torch.allclose(turn @ back, torch.eye(size, dtype=torch.float64).expand(heads, -1, -1), atol=1e-6)
    first, second = turn @ one @ turn.mT, back.mT @ other @ back
    diagonal = first.diagonal(dim1=-2, dim2=-1)
    assert torch.allclose(first, torch.diag_embed(diagonal), atol=1e-6)
    assert torch.allclose(first, second, atol=1e-6)
    assert (diagonal.diff(dim=-1) <= 1e-9).all()


@given(seed=st.integers(0, 10**6), rank=st.integers(0, 5))
def test_moments_of_low_rank_are_no_obstacle(seed: int, rank: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 6, rank, generator=generator, dtype=torch.float64)
    turn, back = balanced(x @ x.mT, torch.eye(6, dtype=torch.float64)[None])
    assert turn.isfinite().all()
    assert back.isfinite().all()
    assert torch.allclose(turn @ back, torch.eye(6, dtype=torch.float64)[None], atol=1e-5)
