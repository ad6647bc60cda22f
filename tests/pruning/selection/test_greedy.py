from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.pruning.selection.chains import chain_graph, elimination
from tsdistill.pruning.selection.cost_model import cost_model_of, savings_per_node
from tsdistill.pruning.selection.greedy import Choice, convex, leaving, orders, select
from tsdistill.pruning.selection.pruning_order import PruningOrder
from tsdistill.tracing import NodeGraph


def _selected(graph: NodeGraph, lists: Sequence[PruningOrder], kind: str, part: float) -> dict[str, Choice]:
    cost_model = cost_model_of(graph, kind)
    select(cost_model, lists, part * cost_model.total)
    return leaving(cost_model, orders(lists))


def test_the_cheapest_per_saving_goes_first_until_the_budget_is_met() -> None:
    graph = chain_graph(a=10, b=10)
    lists = [elimination("a", [1.0] * 9), elimination("b", [0.01] * 9)]
    choices = _selected(graph, lists, "macs", 0.6)
    assert len(choices["b"].nodes) == 6
    assert len(choices["a"].nodes) == 0
    kept = {"a": 10, "b": 4}
    assert graph.macs(kept) <= 0.6 * graph.macs()
    assert graph.macs({"a": 10, "b": 5}) > 0.6 * graph.macs()


def test_nothing_goes_when_all_is_kept() -> None:
    choices = _selected(chain_graph(a=4, b=4), [elimination("a", [0.0] * 3)], "params", 1.0)
    assert len(choices["a"].nodes) == 0


def test_a_budget_of_nodes_counts_nodes() -> None:
    graph = chain_graph(a=300, b=100)
    lists = [elimination("a", list(np.linspace(0, 1, 299))), elimination("b", list(np.linspace(0, 3, 99)))]
    choices = _selected(graph, lists, "nodes", 0.5)
    assert sum(len(choice.nodes) for choice in choices.values()) == 200
    highest = [lists[i].cost[len(choices[n].nodes) - 1] for i, n in enumerate("ab")]
    assert abs(highest[0] - highest[1]) < 0.06


def test_a_dear_node_does_not_hide_the_cheap_ones_behind_it() -> None:
    graph = chain_graph(a=10, b=10)
    lists = [elimination("a", [0.5, 0, 0, 0, 0, 0, 0, 0, 0]), elimination("b", [0.3] * 9)]
    choices = _selected(graph, lists, "nodes", 0.55)
    assert len(choices["a"].nodes) == 9


def test_a_limit_out_of_reach_ends_where_the_nodes_do() -> None:
    graph = chain_graph(a=10, b=10)
    cost_model = cost_model_of(graph, "macs")
    select(cost_model, [elimination("a", [1.0] * 3)], 0.0)
    assert cost_model.kept == {"a": 7, "b": 10}
    assert cost_model.total == 0.7 * graph.macs()


def test_several_groups_in_one_elimination_keep_its_order() -> None:
    graph = chain_graph(a=4, b=4)
    both = PruningOrder(
        ("a", "b"), np.array([1, 0, 1]), np.array([2, 3, 0]), np.array([0.0, 1, 2]), np.zeros(3, dtype=bool)
    )
    choices = _selected(graph, [both], "nodes", 0.75)
    assert choices["b"].nodes.tolist() == [2]
    assert choices["a"].nodes.tolist() == [3]


def test_convex_costs_never_decrease_and_keep_their_sum() -> None:
    costs = np.array([3.0, 1, 2, 5, 4, 4.5, 0])
    found = convex(costs)
    assert bool((np.diff(found) >= -1e-12).all())
    assert found.sum() == pytest.approx(costs.sum())
    assert bool((np.cumsum(found) <= np.cumsum(costs) + 1e-12).all())
    assert convex(np.zeros(0)).size == 0


def test_savings_per_node() -> None:
    assert savings_per_node(cost_model_of(chain_graph(a=10, b=5), "macs")) == {"a": 10 + 15, "b": 30}
    assert savings_per_node(cost_model_of(chain_graph(a=10, b=5), "nodes")) == {"a": 1, "b": 1}
