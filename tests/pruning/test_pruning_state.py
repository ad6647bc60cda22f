from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.networks import Residual, images, residual
from tests.tracing.networks import networks
from tsdistill.pruning import PruningPlan, pruning_state
from tsdistill.pruning.plan_file import PrunedGroup
from tsdistill.pruning.pruning_state import IndexMap, PruningState
from tsdistill.pruning.realignment import Realigned
from tsdistill.statistics.observation import observe
from tsdistill.statistics.prepared_data import PreparedData, prepare
from tsdistill.statistics.sites import find_sites
from tsdistill.tracing import Cut, Frozen, NodeGraph, cut, trace


def _plan(graph: NodeGraph, leaving: Mapping[str, Sequence[int]]) -> PruningPlan:
    groups = {}
    for group in graph.groups:
        nodes = tuple(leaving.get(group.name, ()))
        costs = tuple(0.5 + node for node in nodes)
        groups[group.name] = PrunedGroup(group.size, nodes, ("weak",) * len(nodes), costs)
    kept = {name: group.size - len(group.removed) for name, group in groups.items()}
    figures = [
        {"params": graph.params(k), "macs": graph.macs(k), "nodes": sum(k.values())}
        for k in (graph.widths, kept)
    ]
    return PruningPlan(None, "some", True, "data", groups, figures[0], figures[1])


def _cut(way: PruningState, prepared: PreparedData, leaving: Mapping[str, Sequence[int]]) -> bool:
    graph = trace(way.model, prepared.example)
    sites = find_sites(way.model, graph)
    observed = observe(way.model, sites, prepared)
    return way.cut(_plan(graph, leaving), graph, sites, observed)


@pytest.fixture
def started() -> tuple[Residual, PruningState, PreparedData]:
    model = residual(width=10, inner=14)
    prepared = prepare(model, images(60))
    return model, PruningState(model, trace(model, prepared.example), prepared), prepared


def test_what_leaves_in_several_rounds_is_one_plan_of_the_dense_model(
    started: tuple[Residual, PruningState, PreparedData],
) -> None:
    model, way, prepared = started
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert _cut(way, prepared, {"stem": [7, 0], "first": [3]})
    assert way.plan().groups["stem"].removed == (7, 0)
    assert _cut(way, prepared, {"stem": [0, 6], "first": [12, 3]})
    assert _cut(way, prepared, {"first": [2]})
    made = way.plan()
    # Of 1 2 3 4 5 6 8 9 the first and the seventh; of all but 3 the last and the fourth.
    assert made.groups["stem"].removed == (7, 0, 1, 8)
    assert made.groups["first"].removed == (3, 13, 4, 2)
    assert made.groups["stem"].costs == (7.5, 0.5, 0.5, 6.5)
    assert (made.before["nodes"], made.after["nodes"]) == (24, 16)
    assert way.rounds == 3
    assert way.figures() == dict(made.after)
    assert way.figures()["params"] == sum(p.numel() for p in way.model.parameters())
    stays = [2, 3, 4, 5, 6, 9]
    assert torch.equal(way.model.get_parameter("stem.weight"), model.stem.weight[stays])
    assert torch.equal(way.model.get_parameter("norm.weight"), model.norm.weight[stays])
    left = model.first_norm.weight[[0, 1, *range(5, 13)]]
    assert torch.equal(way.model.get_parameter("first_norm.weight"), left)
    assert way.dense is model
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    once = cut(model, way.graph, made.removed, prepared.example).model
    assert [p.shape for p in once.parameters()] == [p.shape for p in way.model.parameters()]


def test_groups_that_cannot_be_cut_are_put_back_and_nothing_is_cut(
    started: tuple[Residual, PruningState, PreparedData], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(
        model: nn.Module, graph: NodeGraph, removed: Mapping[str, Sequence[int]], example: Tensor
    ) -> Cut:
        able = {name: nodes for name, nodes in removed.items() if name != "first"}
        refused = tuple(Frozen(name, "it refuses") for name in removed if name not in able)
        return replace(cut(model, graph, able, example), put_back=refused)

    model, way, prepared = started
    monkeypatch.setattr(pruning_state, "cut", refusing)
    leaving = {"stem": [7], "first": [3, 4]}
    assert not _cut(way, prepared, leaving)
    assert way.model is model
    assert way.rounds == 0
    assert list(way.put_back) == ["first"]
    assert _cut(way, prepared, leaving)
    assert way.model.first.out_channels == 14
    assert way.model.stem.out_channels == 9
    assert way.figures()["params"] == sum(p.numel() for p in way.model.parameters())
    assert way.notes() == ["group 'first' could not be cut and is whole: it refuses"]
    assert _cut(way, prepared, {"stem": [0], "first": [0]})
    assert way.plan().removed == {"stem": [0, 7]}


def test_an_exact_cut_leaves_norms_alone(started: tuple[Residual, PruningState, PreparedData]) -> None:
    model, _, prepared = started
    with torch.no_grad():
        model.first.weight[:, 2] = 0
        model.head.weight[:, 8:12] = 0
    graph = trace(model, prepared.example)
    way = PruningState(model, graph, prepared)
    sites = find_sites(model, graph)
    observed = observe(model, sites, prepared, positions=None)
    assert way.cut(_plan(graph, {"stem": [2]}), graph, sites, observed, exact=True)
    stays = [0, 1, *range(3, 10)]
    assert torch.equal(way.model.get_buffer("norm.running_mean"), model.norm.running_mean[stays])
    x = images(20, seed=3)
    with torch.no_grad():
        torch.testing.assert_close(way.model(x), model(x), atol=1e-5, rtol=1e-5)


def test_re_alignment_looks_at_the_dense_model_whatever_came_between(
    started: tuple[Residual, PruningState, PreparedData],
) -> None:
    model, way, prepared = started
    x = images(60, seed=4)

    def gap(small: nn.Module) -> float:
        with torch.no_grad():
            return float((small(x) - model(x)).square().mean())

    assert _cut(way, prepared, {"stem": [7], "first": [3]})
    assert _cut(way, prepared, {"stem": [0, 6], "first": [12, 3]})
    before = gap(way.model)
    with torch.no_grad():
        way.model.first.weight.mul_(1.5)
    assert gap(way.model) > before
    way.realign(0, None)
    assert way.realigned is not None
    assert way.realigned.fitted > 0
    assert way.realigned.samples == 60
    assert gap(way.model) < before
    assert np.isfinite(gap(way.model))


def test_a_model_on_which_re_alignment_fails_stays_as_it_was_cut(
    started: tuple[Residual, PruningState, PreparedData], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, way, prepared = started
    assert _cut(way, prepared, {"stem": [7, 0], "first": [3]})
    state = {name: value.clone() for name, value in way.model.state_dict().items()}

    def half_way(dense: nn.Module, small: nn.Module, *_: object, **__: object) -> None:
        with torch.no_grad():
            next(small.parameters()).zero_()
        raise RuntimeError("no such\nlayer")

    monkeypatch.setattr(pruning_state, "realign", half_way)
    way.realign(0, None)
    assert all(torch.equal(value, state[name]) for name, value in way.model.state_dict().items())
    assert way.notes() == ["the nodes that stay are not re-aligned: RuntimeError: no such layer"]
    monkeypatch.undo()
    way.realign(0, None)
    assert way.realigned is not None
    assert way.realigned.fitted > 0
    assert way.notes() == []


def test_a_model_that_re_alignment_would_make_worse_stays_as_it_was_cut(
    started: tuple[Residual, PruningState, PreparedData], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, way, prepared = started
    assert _cut(way, prepared, {"stem": [7, 0], "first": [3]})
    state = {name: value.clone() for name, value in way.model.state_dict().items()}
    original = pruning_state.realign

    def astray(dense: nn.Module, small: Residual, *args: Any, **kwargs: Any) -> Realigned:
        done = original(dense, small, *args, **kwargs)
        with torch.no_grad():
            small.head.bias.add_(10)
        return done

    monkeypatch.setattr(pruning_state, "realign", astray)
    way.realign(0, None)
    assert all(torch.equal(value, state[name]) for name, value in way.model.state_dict().items())
    assert way.realigned is not None
    assert (way.realigned.fitted, way.realigned.samples) == (0, 60)
    (note,) = way.notes()
    assert note.startswith("re-alignment would have made the outputs worse (error ")


def test_what_a_handful_of_samples_predicts_is_not_believed_where_it_makes_outputs_useless(monkeypatch):
    model = residual()
    prepared = prepare(model, images(60))
    way = PruningState(model, trace(model, prepared.example), prepared)
    believed = []

    def exaggerating(whole: nn.Module, sites: Any, observed: Any, *rest: Any) -> tuple[str, ...]:
        rows = {covariance.rows for covariance in observed.covariances.values()}
        believed.append(max(rows, default=0))
        skipped = original(whole, sites, observed, *rest)
        if believed[-1] > observed.samples:
            for module in whole.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    module.weight.data.mul_(30)
        return skipped

    original = pruning_state.compensate
    monkeypatch.setattr(pruning_state, "compensate", exaggerating)
    (first, *_) = way.graph.groups
    assert _cut(way, prepared, {first.name: [0, 1]})
    assert len(believed) == 3
    assert believed[1:] == [60, 0]
    assert way._error(way.model) < pruning_state.USELESS
    assert "absorbed with caution" in way.notes()[0]


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
