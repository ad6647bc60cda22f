from __future__ import annotations

import itertools

import numpy as np
import pytest

from tsdistill.errors import TsdistillError
from tsdistill.pruning.choosing.budget import Budget
from tsdistill.pruning.choosing.score import Elimination
from tsdistill.pruning.choosing.select import convex, savings_per_node, select
from tsdistill.tracing import Group, NodeGraph, Term


def _graph(**sizes: int) -> NodeGraph:
    """A chain: every operation is a product of neighbouring widths."""
    groups = tuple(Group(name, size, (), (), ()) for name, size in sizes.items())
    names = list(sizes)
    terms = [Term("in", 10, ((0, ((names[0], 1),)),))]
    terms += [Term(f"{a}{b}", 3, ((0, ((a, 1),)), (0, ((b, 1),)))) for a, b in itertools.pairwise(names)]
    return NodeGraph(groups, tuple(terms), tuple(terms))


def _elimination(name: str, costs: list[float]) -> Elimination:
    steps = len(costs)
    return Elimination(
        (name,), np.zeros(steps, dtype=int), np.arange(steps), np.array(costs), np.zeros(steps, dtype=bool)
    )


def test_the_cheapest_per_saving_goes_first_until_the_budget_is_met() -> None:
    graph = _graph(a=10, b=10)
    lists = [_elimination("a", [1.0] * 9), _elimination("b", [0.01] * 9)]
    choices = select(graph, lists, Budget("macs", 0.6))
    assert len(choices["b"].nodes) == 6
    assert len(choices["a"].nodes) == 0
    kept = {"a": 10, "b": 4}
    assert graph.macs(kept) <= 0.6 * graph.macs()
    assert graph.macs({"a": 10, "b": 5}) > 0.6 * graph.macs()


def test_nothing_goes_when_all_is_kept() -> None:
    choices = select(_graph(a=4, b=4), [_elimination("a", [0.0] * 3)], Budget("params", 1.0))
    assert len(choices["a"].nodes) == 0


def test_a_budget_of_nodes_counts_nodes() -> None:
    graph = _graph(a=300, b=100)
    lists = [_elimination("a", list(np.linspace(0, 1, 299))), _elimination("b", list(np.linspace(0, 3, 99)))]
    choices = select(graph, lists, Budget("nodes", 0.5))
    assert sum(len(choice.nodes) for choice in choices.values()) == 200
    highest = [lists[i].cost[len(choices[n].nodes) - 1] for i, n in enumerate("ab")]
    assert abs(highest[0] - highest[1]) < 0.06


def test_a_dear_node_does_not_hide_the_cheap_ones_behind_it() -> None:
    graph = _graph(a=10, b=10)
    lists = [_elimination("a", [0.5, 0, 0, 0, 0, 0, 0, 0, 0]), _elimination("b", [0.3] * 9)]
    choices = select(graph, lists, Budget("nodes", 0.55))
    assert len(choices["a"].nodes) == 9


def test_a_budget_that_cannot_be_met_says_what_can() -> None:
    graph = _graph(a=10, b=10)
    with pytest.raises(TsdistillError, match=r"smallest that can be reached is 0\.7;"):
        select(graph, [_elimination("a", [1.0] * 3)], Budget("macs", 0.5))


def test_several_groups_in_one_elimination_keep_its_order() -> None:
    graph = _graph(a=4, b=4)
    both = Elimination(
        ("a", "b"), np.array([1, 0, 1]), np.array([2, 3, 0]), np.array([0.0, 1, 2]), np.zeros(3, dtype=bool)
    )
    choices = select(graph, [both], Budget("nodes", 0.75))
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
    assert savings_per_node(_graph(a=10, b=5), "macs") == {"a": 10 + 15, "b": 30}
    assert savings_per_node(_graph(a=10, b=5), "nodes") == {"a": 1, "b": 1}
