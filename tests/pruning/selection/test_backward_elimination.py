from __future__ import annotations

import numpy as np
import pytest

from tsdistill.pruning.selection.backward_elimination import eliminate
from tsdistill.pruning.selection.obs import OBSState, Part


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
