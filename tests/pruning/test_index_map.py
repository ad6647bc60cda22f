"""Any number of cuts of random networks: what is left is the dense model's, where the lineage says it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.alignment.small import residual
from tests.tracing.networks import networks
from tsdistill.pruning.index_map import IndexMap
from tsdistill.tracing import NodeGraph, cut, trace

LAWS = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def _number(model: nn.Module) -> None:
    """Every parameter and buffer counts its entries, so that no two of one tensor are alike."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.copy_(torch.arange(1.0, tensor.numel() + 1).reshape(tensor.shape) / tensor.numel())


def _some(graph: NodeGraph, rng: np.random.Generator) -> dict[str, np.ndarray]:
    chosen = {}
    for group in graph.groups:
        count = int(rng.integers(0, max(1, group.size // 2) + 1))
        chosen[group.name] = np.sort(rng.permutation(group.size)[: min(count, group.size - 1)])
    return {name: nodes for name, nodes in chosen.items() if len(nodes)}


def _descend(dense: nn.Module, seed: int, rounds: int) -> None:
    _number(dense)
    graph = trace(dense, X, check=False)
    index_map, small, first = IndexMap(dense, graph), dense, graph
    tensors = {**dict(dense.named_parameters()), **dict(dense.named_buffers())}
    left = {group.name: set(range(group.size)) for group in graph.groups}
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        chosen = _some(graph, rng)
        for name in [name for name in chosen if index_map.nodes(graph.by_name[name]) is None]:
            chosen.pop(name)
        done = cut(small, graph, chosen, X)
        for name, nodes in done.removed.items():
            origin = index_map.nodes(graph.by_name[name])
            assert origin is not None
            for node in nodes.tolist():
                group, then = origin[node]
                left[group].remove(then)
        index_map.cut(graph, done.removed)
        small = done.model
        graph = trace(small, X, check=False, like=first)
        for name, tensor in (*small.named_parameters(), *small.named_buffers()):
            places = [index_map.kept[name, dim] for dim in range(tensor.ndim)]
            then = tensors[name][np.ix_(*places)] if places else tensors[name]
            assert torch.equal(tensor, then), name
        for group in graph.groups:
            origin = index_map.nodes(group)
            if origin is None:
                continue
            assert len(set(origin)) == group.size
            for slot in group.slots:
                then = index_map.kept[slot.param, slot.dim][slot.coords]
                for coords, (name, node) in zip(then, origin, strict=True):
                    assert node in left[name]
                    places = [
                        each.coords[node]
                        for each in first.by_name[name].slots
                        if (each.param, each.dim) == (slot.param, slot.dim)
                    ]
                    assert sorted(coords.tolist()) == sorted(np.concatenate(places).tolist())
    removed = {name: sorted(set(range(first.by_name[name].size)) - nodes) for name, nodes in left.items()}
    once = cut(dense, first, removed, X).model
    for (name, mine), other in zip(once.state_dict().items(), small.state_dict().values(), strict=True):
        assert torch.equal(mine, other), name


@LAWS
@given(networks(), st.integers(0, 10**6), st.integers(1, 4))
def test_coordinates_and_nodes_point_to_where_they_were(model: nn.Module, seed: int, rounds: int) -> None:
    _descend(model, seed, rounds)


def test_through_a_stream_norms_and_a_flattened_map() -> None:
    for seed in range(4):
        _descend(residual(width=12, inner=16), seed, 5)


@pytest.mark.parametrize("groups", [2, 4])
def test_a_block_goes_by_rows_or_by_columns_as_it_did_at_first(groups: int) -> None:
    """Of a grouped convolution the same place in every block may go, or whole blocks: what has more nodes."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 1, groups=groups), nn.ReLU(), nn.Conv2d(16, 4, 1)
    )
    graph = trace(model, X)
    index_map = IndexMap(model, graph)
    done = cut(model, graph, {group.name: range(2, group.size) for group in graph.groups}, X)
    index_map.cut(graph, done.removed)
    anew, again = trace(done.model, X), trace(done.model, X, like=graph)
    assert [index_map.nodes(group) for group in anew.groups] == [None] * len(anew.groups)
    assert again.widths == dict.fromkeys(graph.widths, 2)
    assert [index_map.nodes(each) for each in again.groups] == [[(n, 0), (n, 1)] for n in graph.widths]


def test_at_first_everything_is_where_it_is() -> None:
    model = residual()
    graph = trace(model, X)
    index_map = IndexMap(model, graph)
    for group in graph.groups:
        assert index_map.nodes(group) == [(group.name, node) for node in range(group.size)]
    assert set(index_map.kept) >= {("first.weight", 1), ("norm.running_mean", 0), ("head.bias", 0)}
    assert all(np.array_equal(places, np.arange(len(places))) for places in index_map.kept.values())


def test_nodes_of_another_model_are_none_of_this_one() -> None:
    model, other = residual(), nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    index_map = IndexMap(model, trace(model, X))
    assert index_map.nodes(trace(other, X, check=False).groups[0]) is None
