from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tsdistill.statistics.centred_sums import LARGEST, CentredSums, PendingSamples, gram


def _sums(s: torch.Tensor, t: torch.Tensor, sizes: list[int], *, full: bool = False) -> CentredSums:
    sums = CentredSums(full=full)
    for a, b in zip(s.split(sizes), t.split(sizes), strict=True):
        sums.add(a[:, :, None], b[:, :, None])
    return sums


def _correlation(sums: CentredSums) -> np.ndarray:
    assert sums.products is not None
    return (sums.products / torch.outer(sums.squares[0], sums.squares[1]).sqrt()).numpy()


def _reference(s: torch.Tensor, t: torch.Tensor) -> np.ndarray:
    return np.corrcoef(s.double().numpy().T, t.double().numpy().T)[: s.shape[1], s.shape[1] :]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    log_scale=st.floats(-8, 8),
    log_mean=st.floats(-1, 4.5),
    cuts=st.lists(st.integers(1, 400), max_size=4),
    drift=st.booleans(),
)
def test_correlations_equal_numpy_in_float64_whatever_scale_mean_and_batches(
    seed: int, log_scale: float, log_mean: float, cuts: list[int], drift: bool
) -> None:
    """The mean may be 30,000 times the deviation and drift by many deviations from batch to batch."""
    generator = torch.Generator().manual_seed(seed)
    rows = 900
    base = torch.randn(rows, 4, generator=generator)
    s = base @ torch.randn(4, 5, generator=generator) + torch.randn(rows, 5, generator=generator)
    t = base @ torch.randn(4, 3, generator=generator) + 0.1 * torch.randn(rows, 3, generator=generator)
    if drift:
        s = s + torch.linspace(0, 300, rows)[:, None]
    s = 10**log_scale * (s + 10**log_mean * torch.randn(5, generator=generator))
    sizes = [cut for cut in cuts if cut] or [rows]
    while sum(sizes) < rows:
        sizes.append(min(256, rows - sum(sizes)))
    while sum(sizes) > rows:
        sizes[-1] -= min(sizes[-1], sum(sizes) - rows)
        sizes = [size for size in sizes if size]
    np.testing.assert_allclose(_correlation(_sums(s, t, sizes)), _reference(s, t), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 299))
def test_merged_blocks_are_those_of_everything(seed: int, cut: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    s = torch.randn(300, 4, generator=generator).double() + 5
    t = torch.randn(300, 2, generator=generator).double()
    whole = _sums(s, t, [300], full=True)
    part = _sums(s, t, [cut, 300 - cut], full=True)
    assert part.n == 300
    for mine, theirs in zip(
        (*part.means, *part.squares, part.products, *part.own),
        (*whole.means, *whole.squares, whole.products, *whole.own),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("layout", ["channels first", "channels last", "vectors"])
def test_the_layout_in_memory_makes_no_difference(layout: str) -> None:
    x = torch.randn(6, 5, 4, 3, generator=torch.Generator().manual_seed(0)) + 2
    rows = x.permute(0, 2, 3, 1).reshape(-1, 5)
    block = x.flatten(2)
    if layout == "channels last":
        block = x.to(memory_format=torch.channels_last).flatten(2)
        assert block.stride(1) == 1
    elif layout == "vectors":
        block = rows[:, :, None]
    sums = CentredSums()
    sums.add(block)
    reference = np.cov(rows.double().numpy().T, bias=True)
    assert sums.n == 72
    np.testing.assert_allclose(sums.products / sums.n, reference, atol=1e-6)
    np.testing.assert_allclose(sums.squares[0] / sums.n, np.diag(reference), rtol=1e-6)
    np.testing.assert_allclose(sums.means[0], rows.double().mean(0), rtol=1e-6)


def test_a_reduced_precision_of_the_user_s_products_is_not_ours() -> None:
    s = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = _correlation(_sums(s, s, [4000]))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_allclose(found, _reference(s, s), atol=1e-5)


def test_small_blocks_wait_and_large_ones_come_in_slices() -> None:
    pending = PendingSamples()
    few = torch.arange(10.0).reshape(5, 2, 1)
    assert list(pending.add(few, few)) == []
    few += 100
    ((left, right),) = pending.rest()
    assert torch.equal(left[:, :, 0], torch.arange(10.0).reshape(5, 2))
    assert torch.equal(left, right)
    assert list(pending.rest()) == []
    large = torch.zeros(9, 1, LARGEST // 4)
    parts = [block.shape[0] for (block,) in pending.add(large)]
    assert sum(parts) == 9
    assert max(parts) == 4


@pytest.mark.parametrize("width", [20, 192, 500])
def test_half_of_a_gram_matrix_is_the_whole(width: int) -> None:
    rows = torch.randn(300, width, dtype=torch.float64)
    for laid_out in (rows, rows.T.contiguous().T):
        torch.testing.assert_close(gram(laid_out), rows.T @ rows)


@pytest.mark.parametrize("power", [60, 100, 120])
def test_large_finite_values_give_the_sums_of_small_ones(power: int) -> None:
    """A power of two moves the exponent alone; squares of these overflow float32."""
    s, t = torch.randn(300, 5), torch.randn(300, 3)
    small, large = (_sums(s * scale, t * scale, [200, 100], full=True) for scale in (1.0, 2.0**power))
    assert small.products is not None
    assert large.products is not None
    pairs = [(small.products, large.products), *zip(small.own, large.own, strict=True)]
    pairs += zip(small.squares, large.squares, strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(other / 4.0**power, one, rtol=1e-4, atol=1e-3)
