from __future__ import annotations

import numpy as np
import pytest

from tsdistill.pruning.selection.obs import OBSState, Part

RIDGE = 0.01


def _problem(features: int, targets: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Feature moments, cross moments and weights."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(500, features)) @ generator.normal(size=(features, features))
    y = x @ generator.normal(size=(features, targets)) + generator.normal(size=(500, targets))
    return x.T @ x / 500, y.T @ x / 500, generator.uniform(0.5, 2, targets)


def _penalised_residual(g: np.ndarray, c: np.ndarray, weight: np.ndarray, kept: list[int]) -> float:
    """min over maps of Σ ω (residual + ridge penalty), less the targets' own variance: direct solve."""
    inner = g[np.ix_(kept, kept)] + RIDGE * np.eye(len(kept))
    return -sum(w * (row @ np.linalg.solve(inner, row)) for w, row in zip(weight, c[:, kept], strict=True))


def _regression(g: np.ndarray, c: np.ndarray, weight: np.ndarray, parts: list[Part]) -> OBSState:
    p = np.linalg.inv(g + RIDGE * np.eye(len(g)))
    map_ = c @ p
    return OBSState(p, map_.T @ (weight[:, None] * map_), parts)


@pytest.mark.parametrize("m", [1, 3])
def test_increments_and_removals_equal_direct_least_squares(m: int) -> None:
    nodes, targets = 8, 5
    g, c, weight = _problem(nodes * m, targets)
    features = np.random.default_rng(1).permutation(nodes * m).reshape(nodes, m)
    state = _regression(g, c, weight, [Part(np.arange(nodes), features)])
    kept: list[int] = list(range(nodes))
    for gone in ([2], [5], [0, 7]):
        before = _penalised_residual(g, c, weight, features[kept].reshape(-1).tolist())
        increments = state.increments(nodes)
        for node in kept:
            rest = features[[k for k in kept if k != node]].reshape(-1).tolist()
            direct = _penalised_residual(g, c, weight, rest) - before
            assert increments[node] == pytest.approx(direct, rel=1e-7)
        kept = [k for k in kept if k not in gone]
        direct = _penalised_residual(g, c, weight, features[kept].reshape(-1).tolist()) - before
        assert state.remove(gone) == pytest.approx(direct, rel=1e-7)


def test_parts_of_several_groups_and_sizes_live_side_by_side() -> None:
    g, c, weight = _problem(7, 3)
    parts = [
        Part(np.array([0, 1, 2]), np.array([[0], [1], [6]])),
        Part(np.array([5, 4]), np.array([[2, 3], [4, 5]])),
    ]
    state = _regression(g, c, weight, parts)
    whole = _penalised_residual(g, c, weight, list(range(7)))
    left = _penalised_residual(g, c, weight, [0, 1, 4, 5, 6])
    assert state.increments(6)[5] == pytest.approx(left - whole)
    assert state.increments(6)[3] == 0
    assert state.remove([2, 4]) == pytest.approx(_penalised_residual(g, c, weight, [0, 1, 2, 3]) - whole)
    assert state.remove([4]) == 0


def test_own_targets_give_the_optimal_brain_surgeon_score() -> None:
    g, _, _ = _problem(6, 1)
    weight = np.arange(1.0, 7)
    state = OBSState(np.linalg.inv(g), np.diag(weight), [Part(np.arange(6), np.arange(6)[:, None])])
    np.testing.assert_allclose(state.increments(6), weight / np.diag(np.linalg.inv(g)), rtol=1e-9)


def test_a_restricted_regression_decides_the_same() -> None:
    g, c, weight = _problem(90, 20)
    state = _regression(g, c, weight, [Part(np.arange(90), np.arange(90)[:, None])])
    chosen = np.array([3, 70, 11, 42])
    small = state.restrict(chosen)
    for gone in (70, 3):
        before = state.increments(90)[chosen]
        np.testing.assert_allclose(small.increments(90)[chosen], before, rtol=1e-6)
        assert small.remove([gone]) == pytest.approx(state.remove([gone]), rel=1e-6)


def test_many_removals_from_a_large_one_stay_exact() -> None:
    g, c, weight = _problem(150, 30, seed=3)
    state = _regression(g, c, weight, [Part(np.arange(150), np.arange(150)[:, None])])
    order = np.random.default_rng(0).permutation(150)[:140]
    total = sum(state.remove(part) for part in np.array_split(order, 20))
    left = sorted(set(range(150)) - set(order.tolist()))
    direct = _penalised_residual(g, c, weight, left) - _penalised_residual(g, c, weight, list(range(150)))
    assert total == pytest.approx(direct, rel=1e-6)


def test_single_precision_and_columns_that_wait_price_nodes_of_several_features_alike() -> None:
    g, c, weight = _problem(540, 12, seed=5)
    scale = np.sqrt(np.outer(np.diag(g), np.diag(g)))
    g, c = g / scale, c / np.sqrt(np.diag(g))
    features = np.arange(540).reshape(180, 3)
    state = _regression(g, c, weight, [Part(np.arange(180), features)])
    order = np.random.default_rng(0).permutation(180)
    for gone in np.array_split(order[:150], 15):
        state.remove(gone)
    kept = features[np.sort(order[150:])].reshape(-1)
    parts = [Part(np.sort(order[150:]), np.arange(len(kept)).reshape(-1, 3))]
    direct = _regression(g[np.ix_(kept, kept)], c[:, kept], weight, parts)
    np.testing.assert_allclose(state.increments(180), direct.increments(180), rtol=2e-3)
    chosen = np.sort(order[150:])[:5]
    np.testing.assert_allclose(
        state.restrict(chosen).increments(180)[chosen], direct.increments(180)[chosen], rtol=2e-3
    )
