from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.networks import mlp, residual
from tsdistill.errors import TsdistillError
from tsdistill.pruning.selection.width_constraints import WidthConstraints, constraints_of, step_of
from tsdistill.tracing import Group, NodeGraph, Slot, trace


def _graph(**sizes: int) -> NodeGraph:
    return NodeGraph(tuple(Group(name, size, (), (), ()) for name, size in sizes.items()))


def test_floors_by_default_are_a_tenth_and_at_least_one() -> None:
    constraints = constraints_of(_graph(a=64, b=5, c=11))
    assert constraints.floors == {"a": 7, "b": 1, "c": 2}
    assert constraints_of(_graph(a=64, b=5), min_nodes=8).floors == {"a": 8, "b": 5}
    assert constraints_of(_graph(a=64, b=5), whole=["a"]).floors == {"a": 64, "b": 1}
    assert constraints_of(_graph(a=64), share=0.0).floors == {"a": 1}
    assert constraints_of(_graph(a=20, b=5), dense={"a": 64}).floors == {"a": 7, "b": 1}


def test_widths_are_multiples_or_whole() -> None:
    constraints = constraints_of(_graph(a=64, b=5, c=20, d=8), round_to=8)
    assert constraints.floors == {"a": 8, "b": 5, "c": 8, "d": 8}
    assert [constraints.below("c", kept) for kept in (20, 19, 16, 15, 9, 8)] == [20, 16, 16, 8, 8, 8]
    assert [constraints.above("c", kept) for kept in (8, 15, 16, 19)] == [16, 16, 20, 20]
    assert constraints.below("b", 5) == 5
    assert constraints_of(_graph(a=64), round_to=8, min_nodes=9).floors == {"a": 16}


def _slot(coords: list[list[int]]) -> Slot:
    return Slot("p", 0, np.array(coords))


@pytest.mark.parametrize(
    ("slots", "step"),
    [
        ([_slot([[0], [1], [2]])], 8),
        ([_slot([[0, 1, 2, 3], [4, 5, 6, 7]])], 2),
        ([_slot([[0, 1, 4, 5], [2, 3, 6, 7]])], 4),
        ([_slot([[0, 2], [1, 3]])], 8),
        ([_slot([[0], [1]]), _slot([[0, 1, 2, 3], [4, 5, 6, 7]])], 8),
        ([_slot([[*range(64)], [*range(64, 128)]])], 1),
        ([_slot([[0, 1, 2], [3, 4, 5]])], 8),
    ],
)
def test_a_block_of_neighbours_counts_as_many_as_it_holds(slots: list[Slot], step: int) -> None:
    assert step_of(Group("g", len(slots[0].coords), tuple(slots), (), ()), 8) == step


def test_flattened_maps_do_not_change_what_a_channel_counts() -> None:
    graph = trace(residual(width=16), torch.randn(1, 3, 8, 8))
    assert constraints_of(graph, round_to=8).steps == {"stem": 8, "first": 8}


def test_only_and_exclude_choose_groups_by_pattern() -> None:
    graph = trace(mlp(4, 10, 10, 10, 2), torch.randn(1, 4))

    def cut(**how: Any) -> set[str]:
        floors = constraints_of(graph, **how).floors
        return {name for name, floor in floors.items() if floor < 10}

    assert cut(only=["0"]) == {"0"}
    assert cut(only="[02]") == {"0", "2"}
    assert cut(exclude=("0", "4")) == {"2"}
    assert cut(only=["*"], exclude=["2"]) == {"0", "4"}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"only": ["stm"]}, "only 'stm' meets no group; near are stem"),
        ({"exclude": ["layer*"]}, "exclude 'layer\\*' meets no group; near are stem, first"),
        ({"only": "stem", "exclude": "st*"}, "no group that could be cut"),
        ({"exclude": "*"}, "no group that could be cut"),
    ],
)
def test_bad_limits_are_one_line(how: dict[str, Any], words: str) -> None:
    graph = trace(residual(), torch.randn(1, 3, 8, 8))
    with pytest.raises(TsdistillError, match=words) as caught:
        constraints_of(graph, **how)
    assert "\n" not in str(caught.value)


def test_limits_of_blocks_of_a_grouped_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 3, groups=4), nn.Conv2d(32, 2, 1)).eval()
    graph = trace(model, torch.randn(1, 3, 8, 8))
    constraints = constraints_of(graph, round_to=4)
    assert isinstance(constraints, WidthConstraints)
    for group in graph.groups:
        assert constraints.floors[group.name] % constraints.steps[group.name] == 0 or (
            constraints.floors[group.name] == group.size
        )
