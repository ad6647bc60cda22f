from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.pruning.selection.chains import elimination
from tsdistill.alignment import analyze
from tsdistill.pruning import plan
from tsdistill.pruning.selection.cost_model import CostModel, cost_model_of
from tsdistill.pruning.selection.greedy import orders, select
from tsdistill.pruning.selection.greedy_refinement import LEAST_GAIN, avoid_overshoot, refill_budget
from tsdistill.pruning.selection.width_constraints import constraints_of
from tsdistill.tracing import Group, NodeGraph, Term

SIZES = {"stream": 8, "first": 64, "second": 64}


def _tied_network() -> NodeGraph:
    """Two MLPs on a stream whose nodes are eight channels and one coordinate of eight heads each."""
    groups = tuple(Group(name, size, (), (), ()) for name, size in SIZES.items())
    stream = (0, (("stream", 8),))
    terms = [Term(name, 2, (stream, (0, ((name, 1),)))) for name in ("first", "second")]
    terms.append(Term("attention", 4, (stream, stream)))
    return NodeGraph(groups, tuple(terms), tuple(terms))


def _selected(costs: dict[str, np.ndarray], part: float) -> tuple[CostModel, CostModel]:
    """Widths before and after the coarse steps are looked at again."""
    graph = _tied_network()
    constraints = constraints_of(graph, min_nodes=1)
    lists = [elimination(name, costs[name][: size - 1].tolist()) for name, size in SIZES.items()]
    walked = cost_model_of(graph, "macs")
    limit = part * walked.total
    select(walked, lists, limit)
    refill_budget(walked, orders(lists), constraints, limit)
    kept = dict(walked.kept)
    chosen = avoid_overshoot(
        walked, lambda: cost_model_of(graph, "macs"), lists, orders(lists), constraints, limit
    )
    assert walked.kept == kept
    assert chosen.total <= limit
    return walked, chosen


def _spent(kept: dict[str, int], costs: dict[str, np.ndarray]) -> float:
    return sum(float(costs[name][: size - kept[name]].sum()) for name, size in SIZES.items())


def _costs(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "stream": np.sort(generator.gamma(2.0, generator.uniform(0.5, 6), 8)),
        **{name: np.geomspace(1e-3, generator.uniform(0.3, 3), 64) for name in ("first", "second")},
    }


@pytest.mark.parametrize("seed", range(10))
def test_no_cut_with_fewer_nodes_of_a_coarse_group_is_much_cheaper(seed: int) -> None:
    """Against every combination of widths that keeps at least as much of the stream."""
    costs, graph = _costs(seed), _tied_network()
    for part in (0.75, 0.6, 0.5, 0.4):
        walked, chosen = _selected(costs, part)
        limit = part * graph.macs()
        tables = np.indices((9 - chosen.kept["stream"], 64, 64)).reshape(3, -1).T
        tables += np.array([chosen.kept["stream"], 1, 1])
        macs = 16 * tables[:, 0] * (tables[:, 1] + tables[:, 2]) + 256 * tables[:, 0] ** 2
        assert macs[-1] == graph.macs()
        spent = [np.concatenate([[0.0], np.cumsum(costs[name])]) for name in SIZES]
        total = sum(spent[i][size - tables[:, i]] for i, size in enumerate(SIZES.values()))
        best = float(total[macs <= limit].min())
        assert _spent(chosen.kept, costs) * (1 - LEAST_GAIN) <= best * 1.05
        assert _spent(chosen.kept, costs) <= _spent(walked.kept, costs)


def test_a_large_step_is_not_taken_for_a_small_rest() -> None:
    """One node of the stream costs as much as half of the cut, and saves far more than was missing."""
    costs = {"stream": np.full(8, 10.0), **{name: np.geomspace(1e-3, 2, 64) for name in ("first", "second")}}
    found = [_selected(costs, part) for part in np.linspace(0.95, 0.5, 40)]
    changed = [(walked, chosen) for walked, chosen in found if chosen is not walked]
    assert changed
    for walked, chosen in changed:
        assert chosen.kept["stream"] > walked.kept["stream"]
        assert _spent(chosen.kept, costs) <= (1 - LEAST_GAIN) * _spent(walked.kept, costs)


def test_ordinary_groups_are_selected_as_before() -> None:
    generator = np.random.default_rng(0)
    groups = tuple(Group(name, 64, (), (), ()) for name in "abcd")
    terms = [Term(f"{a}{b}", 1, ((0, ((a, 1),)), (0, ((b, 1),)))) for a, b in itertools.pairwise("abcd")]
    graph = NodeGraph(groups, tuple(terms), tuple(terms))
    lists = [elimination(name, np.sort(generator.gamma(1.0, 1.0, 63)).tolist()) for name in "abcd"]
    constraints = constraints_of(graph, min_nodes=1)
    for part in (0.8, 0.5, 0.3):
        walked = cost_model_of(graph, "macs")
        limit = part * walked.total
        select(walked, lists, limit)
        refill_budget(walked, orders(lists), constraints, limit)
        new = avoid_overshoot(
            walked, lambda: cost_model_of(graph, "macs"), lists, orders(lists), constraints, limit
        )
        assert new is walked


class _Attention(nn.Module):
    """Attention that takes the size of a head from its input, so that the stream loses 4 channels a node."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            y.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for y in self.qkv(x).split(width, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(batch, length, width))


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 16), nn.Linear(16, 3)
        self.attention, self.up, self.down = _Attention(), nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.attention(x)
        return self.head(x + self.down(F.gelu(self.up(x))))


def test_a_plan_costs_no_more_than_one_that_leaves_a_tied_stream_whole() -> None:
    torch.manual_seed(1)
    model = _Block().eval()
    with torch.no_grad():
        model.down.weight.mul_(100 * torch.logspace(-3, 0, 64))
    report = analyze(model, data=torch.randn(64, 6, 5), inputs={"example_input": torch.randn(1, 6, 5)})
    assert report.graph.widths == {"embed": 4, "up": 64}
    for part in np.linspace(0.7, 0.6, 5):
        every, fewer = (plan(report, macs=float(part), selection={"exclude": out}) for out in ((), "embed"))
        spent = [sum(sum(group.costs) for group in made.groups.values()) for made in (every, fewer)]
        assert (1 - LEAST_GAIN) * spent[0] <= spent[1]
