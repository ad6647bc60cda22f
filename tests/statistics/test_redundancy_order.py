from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsdistill.statistics.linear_prediction import LOWEST, elimination_r2, explained


def _correlation(x: np.ndarray) -> np.ndarray:
    return np.atleast_2d(np.corrcoef(x.T))


def _nobody(n: int) -> np.ndarray:
    return np.zeros(n, dtype=bool)


def _one_by_one(correlation: np.ndarray) -> np.ndarray:
    """Backward elimination with a fresh inverse at every step."""
    shares, stay, last = np.zeros(len(correlation)), list(range(len(correlation))), 1.0
    while len(stay) > 1:
        precision = np.diag(np.linalg.inv(correlation[np.ix_(stay, stay)] + 1e-7 * np.eye(len(stay))))
        index = int(np.argmax(precision))
        last = min(last, 1 - 1 / precision[index])
        if last < LOWEST:
            break
        shares[stay.pop(index)] = last
    return shares


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 40), rank=st.integers(1, 30), noise=st.floats(0.05, 2))
def test_it_is_backward_elimination(seed: int, n: int, rank: int, noise: float) -> None:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(2000, rank)) @ generator.normal(size=(rank, n))
    x += noise * generator.normal(size=x.shape)
    correlation = _correlation(x)
    found = elimination_r2(correlation, _nobody(n), 2000, np.zeros(n))
    np.testing.assert_allclose(np.sort(found), np.sort(_one_by_one(correlation)), atol=1e-5)


def test_more_nodes_than_one_block_holds() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(3000, 60)) @ generator.normal(size=(60, 400)) + 2 * generator.normal(
        size=(3000, 400)
    )
    correlation = _correlation(x)
    found = elimination_r2(correlation, _nobody(400), 3000, np.zeros(400))
    np.testing.assert_allclose(np.sort(found), np.sort(_one_by_one(correlation)), atol=1e-5)


@pytest.mark.parametrize("threshold", [0.99, 0.9, 0.7])
def test_nodes_at_any_threshold_can_all_go_together(threshold: float) -> None:
    generator = np.random.default_rng(2)
    base = generator.normal(size=(3000, 4))
    x = np.column_stack([base, base @ generator.normal(size=(4, 4)), base[:, :1]])
    x += 1e-4 * generator.normal(size=x.shape)
    correlation = _correlation(x)
    worth = np.arange(9.0)[::-1]
    leaving = elimination_r2(correlation, _nobody(9), 3000, worth) >= threshold
    assert leaving.sum() >= 5
    stay = x[:, ~leaving]
    for k in np.flatnonzero(leaving):
        residual = x[:, k] - stay @ np.linalg.lstsq(stay, x[:, k], rcond=None)[0]
        assert residual.var() < (1 - threshold) * x[:, k].var() * 2
    assert explained(correlation, 3000).min() > 0.99
    assert not leaving[0]


@pytest.mark.parametrize("rows", [4000, 12])
def test_of_twins_all_but_the_worthiest_go_and_those_gone_explain_nothing(rows: int) -> None:
    x = np.random.default_rng(3).normal(size=(rows, 5))
    x[:, 1:4] = x[:, :1] * [2, 3, 4]
    correlation = _correlation(x)
    found = elimination_r2(correlation, _nobody(5), rows, np.array([1.0, 4.0, 3.0, 2.0, 1.0])) >= 0.99
    assert found.tolist() == [True, False, True, True, False]
    gone = np.array([True, True, True, False, False])
    found = elimination_r2(correlation, gone, rows, np.ones(5))
    assert found.tolist() == [1, 1, 1, 0, 0]


def test_nodes_that_do_not_vary_neither_leave_nor_explain() -> None:
    correlation = np.eye(3)
    correlation[1, 1] = 0
    assert not elimination_r2(correlation, _nobody(3), 1000, np.ones(3)).any()
