from __future__ import annotations

import numpy as np
import pytest

from tsdistill.errors import TsdistillError
from tsdistill.statistics import linear_prediction
from tsdistill.statistics.linear_prediction import (
    downdate,
    elimination_r2,
    explained,
    inverse,
    precision_of,
    ridged_inverse,
    shrinkage,
    standardise,
)


def _correlation(rows: np.ndarray) -> np.ndarray:
    return np.atleast_2d(np.corrcoef(rows))


def _data(rows: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, 6))
    x[:, 4] = x[:, 0] + x[:, 1] + 0.03 * generator.normal(size=rows)
    x[:, 5] = 0.7 * x[:, 2] + generator.normal(size=rows)
    return x * np.array([1, 10, 0.1, 1, 5, 2])


def test_standardise_gives_correlations_and_zeros_for_what_does_not_vary() -> None:
    x = _data(300)
    x[:, 3] = 2.0
    matrix = np.cov(x.T, bias=True)
    matrix[3], matrix[:, 3] = 0, 0
    found = standardise(matrix, np.sqrt(np.diag(matrix)))
    alive = [0, 1, 2, 4, 5]
    np.testing.assert_allclose(found[np.ix_(alive, alive)], _correlation(x[:, alive].T), atol=1e-12)
    assert not found[3].any()


def test_explained_is_the_adjusted_share_of_least_squares() -> None:
    x = _data(400)
    found = explained(_correlation(x.T), 400)
    for k in range(6):
        others = np.column_stack([np.delete(x, k, axis=1), np.ones(400)])
        residual = x[:, k] - others @ np.linalg.lstsq(others, x[:, k], rcond=None)[0]
        share = 1 - residual.var() / x[:, k].var()
        assert found[k] == pytest.approx(1 - (1 - share) * 399 / (400 - 6), abs=1e-5)


def test_with_few_samples_only_single_predictors_count() -> None:
    x = np.random.default_rng(1).normal(size=(8, 6))
    found = explained(_correlation(x.T), 8)
    table = _correlation(x.T) ** 2 - np.eye(6)
    np.testing.assert_allclose(found, table.max(1))


def test_downdate_is_the_inverse_of_what_is_left() -> None:
    matrix = np.cov(_data(100).T) + np.eye(6)
    found = downdate(inverse(matrix), np.array([1, 4]))
    left = [0, 2, 3, 5]
    np.testing.assert_allclose(found, np.linalg.inv(matrix[np.ix_(left, left)]), atol=1e-12)


def test_inverse_survives_a_singular_matrix() -> None:
    assert np.isfinite(inverse(np.ones((3, 3)))).all()


def test_shrinkage_fades_with_samples_and_grows_with_features() -> None:
    generator = np.random.default_rng(4)

    def ridge(rows: int, features: int) -> float:
        return shrinkage(_correlation(generator.normal(size=(rows, features)).T), rows)

    assert ridge(50, 100) > 1
    low = np.random.default_rng(5).normal(size=(20_000, 4)) @ np.ones((4, 30)) + 0.1 * generator.normal(
        size=(20_000, 30)
    )
    assert shrinkage(_correlation(low.T), 20_000) == pytest.approx(1e-3)
    assert shrinkage(np.ones((1, 1)), 10) == pytest.approx(1e-3)


@pytest.mark.parametrize("ridge", [1e-3, 0.05])
def test_the_inverse_of_a_wide_ridged_matrix_is_the_same_in_both_precisions(
    ridge: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).normal(size=(400, 60)) @ np.random.default_rng(1).normal(size=(60, 300))
    correlation = _correlation(rows.T)
    expected = np.linalg.inv(correlation + ridge * np.eye(300))
    np.testing.assert_allclose(ridged_inverse(correlation, ridge), expected, rtol=1e-6, atol=1e-6)
    monkeypatch.setattr(linear_prediction, "_WIDE", 200)
    found = ridged_inverse(correlation, ridge)
    assert found.dtype == (np.float32 if ridge > 0.01 else np.float64)
    np.testing.assert_allclose(found, expected, atol=2e-4 / ridge)


def test_a_precision_that_is_known_is_not_made_again() -> None:
    correlation = _correlation(np.random.default_rng(0).normal(size=(40, 6)).T)
    correlation[2], correlation[:, 2] = 0, 0
    precision = precision_of(correlation, 40)
    assert precision is not None
    assert precision.shape == (5, 5)
    np.testing.assert_array_equal(explained(correlation, 40, precision), explained(correlation, 40))
    assert precision_of(correlation, 10) is None
    gone = np.array([False, True, False, False, False, False])
    worth = np.arange(6.0)
    np.testing.assert_allclose(
        elimination_r2(correlation, gone, 40, worth, precision), elimination_r2(correlation, gone, 40, worth)
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_has_no_inverse(value: float) -> None:
    matrix = np.eye(3)
    matrix[0, 1] = matrix[1, 0] = value
    with pytest.raises(TsdistillError, match="not finite"):
        inverse(matrix)
