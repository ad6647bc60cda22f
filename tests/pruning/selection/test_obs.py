from __future__ import annotations

import numpy as np
import pytest

from tsdistill.pruning.selection.obs import OBSState, Part, eliminate

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


def _own(g: np.ndarray, weight: np.ndarray, nodes: np.ndarray | None = None) -> OBSState:
    nodes = np.arange(len(g)) if nodes is None else nodes
    return OBSState(np.linalg.inv(g), np.diag(weight), [Part(nodes, np.arange(len(g))[:, None])])


def _covariance(size: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mix = generator.normal(size=(size, size)) * np.linspace(0.05, 1, size)
    return mix @ mix.T / size + 0.01 * np.eye(size)


def _brute(gs: list[np.ndarray], weights: list[np.ndarray], keep: int) -> tuple[list[int], list[float]]:
    """Direct backward elimination: recompute every conditional variance at every step."""

    def cost(kept: list[int]) -> float:
        total = 0.0
        for g, weight in zip(gs, weights, strict=True):
            gone = [k for k in range(len(g)) if k not in kept]
            if gone:
                inner = np.linalg.solve(g[np.ix_(kept, kept)], g[np.ix_(kept, gone)])
                rest = g[np.ix_(gone, gone)] - g[np.ix_(gone, kept)] @ inner
                total += float(weight[gone] @ np.diag(rest))
        return total

    kept, order, costs, now = list(range(len(gs[0]))), [], [], 0.0
    while len(kept) > keep:
        trial = [cost([k for k in kept if k != node]) for node in kept]
        best = int(np.argmin(trial))
        order.append(kept.pop(best))
        costs.append(trial[best] - now)
        now = trial[best]
    return order, costs


def test_order_and_costs_equal_brute_force_over_several_readers() -> None:
    gs = [_covariance(14, 0), _covariance(14, 1)]
    weights = [np.linspace(1, 3, 14), np.linspace(2, 0.1, 14)]
    order, costs = eliminate(
        [_own(g, w) for g, w in zip(gs, weights, strict=True)],
        np.zeros(14, dtype=int),
        np.array([2]),
        np.ones(14),
        np.zeros(14, dtype=bool),
    )
    expected, spent = _brute(gs, weights, 2)
    assert order.tolist() == expected
    np.testing.assert_allclose(costs, spent, rtol=1e-6)


def test_leaving_in_chunks_costs_little_more_than_one_by_one() -> None:
    g, weight = _covariance(80), np.ones(80)
    order, costs = eliminate(
        [_own(g, weight)], np.zeros(80, dtype=int), np.array([20]), np.ones(80), np.zeros(80, dtype=bool)
    )
    expected, spent = _brute([g], [weight], 20)
    assert len(order) == len(set(order.tolist())) == 60
    assert sum(spent) * (1 - 1e-9) <= sum(costs) <= 1.02 * sum(spent)
    assert len(set(order[:30].tolist()) & set(expected[:30])) >= 27


def test_twins_do_not_leave_together() -> None:
    g = np.eye(120)
    g[:60, 60:] = g[60:, :60] = (1 - 1e-6) * np.eye(60)
    order, costs = eliminate(
        [_own(g, np.ones(120))],
        np.zeros(120, dtype=int),
        np.array([60]),
        np.ones(120),
        np.zeros(120, dtype=bool),
    )
    assert sorted(node % 60 for node in order.tolist()) == list(range(60))
    assert costs.max() < 1e-4


def test_floors_savings_and_free_nodes_are_respected() -> None:
    g = np.diag([1.0, 2, 3, 4, 5, 6])
    owner = np.array([0, 0, 0, 1, 1, 1])
    savings = np.array([1.0, 1, 1, 100, 100, 100])
    free = np.array([False, False, False, False, False, True])
    order, costs = eliminate([_own(g, np.ones(6))], owner, np.array([2, 1]), savings, free)
    assert order.tolist() == [5, 3, 0]
    np.testing.assert_allclose(costs, [0, 4, 1])
    every, _ = eliminate([_own(g, np.ones(6))], owner, np.array([3, 2]), savings, np.ones(6, dtype=bool))
    assert every.tolist() == [3]


@pytest.mark.parametrize("size", [3, 200])
def test_nothing_to_do_gives_nothing(size: int) -> None:
    order, costs = eliminate(
        [_own(np.eye(size), np.ones(size))],
        np.zeros(size, dtype=int),
        np.array([size]),
        np.ones(size),
        np.zeros(size, dtype=bool),
    )
    assert order.size == costs.size == 0
