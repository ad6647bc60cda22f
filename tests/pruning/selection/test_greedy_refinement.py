from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.pruning.selection.chains import chain_graph, elimination
from tsdistill.pruning.selection.cost_model import CostModel, cost_model_of
from tsdistill.pruning.selection.greedy import orders, select
from tsdistill.pruning.selection.greedy_refinement import round_off
from tsdistill.pruning.selection.width_constraints import constraints_of


def _rounded(sizes: dict[str, int], costs: dict[str, np.ndarray], part: float, step: int) -> CostModel:
    graph = chain_graph(**sizes)
    constraints = constraints_of(graph, round_to=step, min_nodes=1)
    lists = [
        elimination(name, costs[name][: sizes[name] - constraints.floors[name]].tolist()) for name in sizes
    ]
    cost_model = cost_model_of(graph, "macs")
    limit = part * cost_model.total
    select(cost_model, lists, limit)
    round_off(cost_model, orders(lists), constraints, limit)
    assert cost_model.total <= limit
    for name, kept in cost_model.kept.items():
        assert kept == sizes[name] or (
            kept % constraints.steps[name] == 0 and kept >= constraints.floors[name]
        )
    return cost_model


def _spent(cost_model: CostModel, costs: dict[str, np.ndarray]) -> float:
    return sum(float(costs[name][:gone].sum()) for name, gone in cost_model.gone.items())


@pytest.mark.parametrize("part", [0.8, 0.6, 0.45, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_rounded_widths_meet_the_budget_and_come_near_the_best_there_is(seed: int, part: float) -> None:
    generator = np.random.default_rng(seed)
    sizes = {"a": 32, "b": 20, "c": 40}
    costs = {
        name: np.sort(generator.gamma(0.5, generator.uniform(0.3, 3), size)) for name, size in sizes.items()
    }
    cost_model = _rounded(sizes, costs, part, 8)
    graph = chain_graph(**sizes)
    ladders = [[size, *(w for w in range(8, size, 8))] for size in sizes.values()]
    best = min(
        sum(float(costs[name][: sizes[name] - kept].sum()) for name, kept in zip(sizes, widths, strict=True))
        for widths in itertools.product(*ladders)
        if graph.macs(dict(zip(sizes, widths, strict=True))) <= part * graph.macs()
    )
    assert _spent(cost_model, costs) <= 1.01 * best


def test_what_rounding_left_of_the_budget_goes_to_the_dearest() -> None:
    sizes = {"a": 24, "b": 24, "c": 24}
    costs = {"a": np.full(24, 1.0), "b": np.full(24, 1.01), "c": np.full(24, 5.0)}
    graph = chain_graph(**sizes)
    constraints = constraints_of(graph, round_to=8, min_nodes=1)
    lists = [elimination(name, costs[name][:16].tolist()) for name in sizes]
    cost_model = cost_model_of(graph, "nodes")
    cost_model.remove({"a": 3, "b": 3, "c": 3})
    round_off(cost_model, orders(lists), constraints, 63)
    assert cost_model.kept == {"a": 8, "b": 24, "c": 24}


def test_free_nodes_do_not_come_back_for_the_budget_s_sake() -> None:
    cost_model = _rounded({"a": 32, "b": 32}, {"a": np.zeros(32), "b": np.arange(1.0, 33)}, 0.7, 8)
    assert cost_model.kept == {"a": 16, "b": 32} or cost_model.kept["b"] == 32
