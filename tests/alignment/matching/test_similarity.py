from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsdistill.alignment.matching.similarity import centred_gram, linear_cka, ordered_matching

seeds = st.integers(0, 2**31 - 1)


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _cka(left: Tensor, right: Tensor) -> float:
    return linear_cka([left], [right]).item()


def _hsic(x: Tensor, y: Tensor) -> Tensor:
    """Song et al. 2012, eq. 5, letter by letter."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    k.fill_diagonal_(0)
    m.fill_diagonal_(0)
    one = torch.ones(n, dtype=x.dtype)
    terms = (k @ m).trace() + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (terms - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


@given(seeds, st.integers(8, 24), st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_it_is_the_unbiased_estimator(seed: int, n: int, f: int, g: int) -> None:
    x = _normal(seed, n, f) + 3
    y = x[:, :1] * 2 + _normal(seed + 1, n, g)
    expected = _hsic(x, y) / (_hsic(x, x) * _hsic(y, y)).sqrt()
    assert _cka(x, y) == pytest.approx(expected.item(), abs=1e-7)
    assert _cka(x.float(), y.float()) == pytest.approx(expected.item(), abs=1e-3)


@given(seeds, st.floats(1e-3, 1e3), st.floats(-100, 100))
@settings(max_examples=40, deadline=None)
def test_permutations_rotations_scalings_and_shifts_change_nothing(
    seed: int, scale: float, shift: float
) -> None:
    x, y = _normal(seed, 40, 7), _normal(seed + 1, 40, 5)
    y[:, 0] += x[:, 0]
    rotation = torch.linalg.qr(_normal(seed + 2, 7, 7))[0]
    permuted = x[:, torch.randperm(7, generator=torch.Generator().manual_seed(seed))]
    for changed in (x @ rotation, permuted, scale * x, x + shift):
        assert _cka(changed, y) == pytest.approx(_cka(x, y), abs=1e-7)
        assert _cka(changed, x) == pytest.approx(1, abs=1e-7)


def test_independent_activations_are_near_zero_however_wide() -> None:
    values = [_cka(_normal(2 * i, 128, 2000), _normal(2 * i + 1, 128, 1000)) for i in range(10)]
    assert abs(np.mean(values)) < 0.02


def test_constant_activations_are_alike_to_nothing() -> None:
    constant = torch.full((50, 6), 1234.567)
    assert _cka(constant, torch.randn(50, 3)) == 0
    assert _cka(constant, constant) == 0


def test_a_large_mean_does_not_drown_the_similarity() -> None:
    x = _normal(0, 100, 8)
    assert _cka((x + 2000).float(), x.float()) == pytest.approx(1, abs=1e-4)


def test_half_precision_features_are_compared_in_single() -> None:
    x = _normal(0, 100, 8)
    assert _cka(x.bfloat16(), x.float()) == pytest.approx(1, abs=1e-3)
    assert centred_gram(x.half()).dtype == torch.float32


def test_the_table_holds_every_pair() -> None:
    mine, theirs = [_normal(i, 30, 3 + i) for i in range(3)], [_normal(9 + i, 30, 4) for i in range(2)]
    table = linear_cka(mine, theirs)
    assert table.shape == (3, 2)
    for i, j in itertools.product(range(3), range(2)):
        assert table[i, j].item() == pytest.approx(_cka(mine[i], theirs[j]), abs=1e-12)
    assert linear_cka([], theirs).shape == (0, 2)


def _best_by_trying(gain: np.ndarray) -> float:
    rows, columns = gain.shape
    return max(
        sum(gain[i, j] for i, j in zip(left, right, strict=True))
        for size in range(min(rows, columns) + 1)
        for left in itertools.combinations(range(rows), size)
        for right in itertools.combinations(range(columns), size)
    )


gains = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.one_of(st.floats(-1, 1), st.just(-np.inf), st.just(0.5)),
        min_size=shape[0] * shape[1],
        max_size=shape[0] * shape[1],
    ).map(lambda values: np.array(values).reshape(shape))
)


@given(gains)
@settings(max_examples=200, deadline=None)
def test_the_matching_is_monotone_one_to_one_and_the_best(gain: np.ndarray) -> None:
    pairs = ordered_matching(gain)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(pairs))
    assert all(gain[pair] > 0 for pair in pairs)
    assert sum(gain[pair] for pair in pairs) == pytest.approx(_best_by_trying(gain), abs=1e-12)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_without_groups_there_are_no_pairs(shape: tuple[int, int]) -> None:
    assert ordered_matching(np.zeros(shape)) == []
