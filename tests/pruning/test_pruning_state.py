from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.alignment.small import Residual, images, residual
from tsdistill.pruning import PruningPlan, pruning_state
from tsdistill.pruning.plan_file import PrunedGroup
from tsdistill.pruning.pruning_state import PruningState
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
