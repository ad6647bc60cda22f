"""Budgets of every kind, reached in several rounds; the number of rounds is always given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.language import encoder
from tests.networks import images, mlp, randomise, residual
from tsdistill.alignment import AlignmentReport, analyze
from tsdistill.errors import TsdistillError
from tsdistill.evaluation import macs
from tsdistill.pruning import PruneResult, prune_result, pruning_state
from tsdistill.pruning.pruning_stages import CHOOSE, CUT
from tsdistill.pruning.realignment.reconstruction import STAGE
from tsdistill.pruning.selection import builtin_costs
from tsdistill.pruning.selection.latency_budget import read
from tsdistill.pruning.selection.latency_model import LatencyModel
from tsdistill.tracing import Cut, Frozen, NodeGraph, cut, trace

X = images(100)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return residual(width=16, inner=24)


@pytest.fixture(scope="module")
def report(model: nn.Module) -> AlignmentReport:
    return analyze(model, data=X)


def _check(model: nn.Module, result: PruneResult, rounds: int) -> None:
    """The plan of all rounds is one plan of the dense model, and says what has become of it."""
    assert result.rounds == rounds
    assert result.plan.before == result.before
    assert result.plan.after == result.after
    assert result.after["params"] == sum(p.numel() for p in result.model.parameters())
    graph = trace(model, X[:1])
    once = cut(model, graph, result.plan.removed, X[:1])
    assert not once.put_back
    assert [p.shape for p in once.model.parameters()] == [p.shape for p in result.model.parameters()]
    for name in ("norm.weight", "first_norm.weight", "second_norm.weight"):
        assert torch.equal(result.model.get_parameter(name), once.model.get_parameter(name))


@pytest.mark.parametrize("budget", [{"macs": 0.4}, {"params": "45%"}, {"nodes": 0.5}], ids=str)
def test_a_budget_is_met_in_three_rounds(
    model: nn.Module, report: AlignmentReport, budget: dict[str, Any]
) -> None:
    ((kind, kept),) = budget.items()
    result = prune_result(
        model, data=X, report=report, budget=budget, realignment={"realign": False, "rounds": 3}
    )
    part = 0.45 if kept == "45%" else kept
    assert 0.75 * part * result.before[kind] < result.after[kind] <= part * result.before[kind]
    assert result.plan.budget.startswith("at most ")
    _check(model, result, 3)
    followed = prune_result(model, result.plan, data=X, realignment={"realign": False})
    assert followed.after == result.after
    assert followed.rounds == 1
    assert {n: sorted(g) for n, g in followed.plan.removed.items()} == result.plan.removed
    assert [p.shape for p in followed.model.parameters()] == [p.shape for p in result.model.parameters()]
    _check(model, followed, 1)


@pytest.mark.parametrize(("kind", "part"), [("macs", 0.5), ("params", 0.6), ("nodes", 0.7)])
def test_amounts_are_those_of_the_dense_model(
    model: nn.Module, report: AlignmentReport, kind: str, part: float
) -> None:
    most = int(part * {"macs": report.macs, "params": report.params, "nodes": 40}[kind])
    result = prune_result(
        model, data=X, report=report, budget={kind: most}, realignment={"rounds": 2, "realign": False}
    )
    assert 0.8 * most < result.after[kind] <= most
    _check(model, result, 2)


def test_latency_is_reached_in_rounds_too(
    model: nn.Module, report: AlignmentReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device whose passes take a nanosecond a MAC, so that nothing is noise."""

    def price(small: nn.Module, graph: NodeGraph, example: Any) -> LatencyModel:
        count = len(graph.operations)
        return LatencyModel((1e-9,) * count, (0.0,) * count, ((),) * count, 0.0)

    def timed(models: Sequence[nn.Module], example: Any, **_: Any) -> list[list[float]]:
        return [[1e-9 * macs(each, example)] * 20 for each in models]

    monkeypatch.setattr(builtin_costs, "price_latency", price)
    monkeypatch.setattr(builtin_costs, "read", partial(read, timer=timed))
    result = prune_result(
        model, data=X, report=report, budget={"latency": 0.6}, realignment={"rounds": 2, "realign": False}
    )
    assert result.rounds == 2
    assert 0.57 <= result.after["macs"] / result.before["macs"] <= 0.63
    assert any(note.startswith("latency at batch 1") for note in result.notes)


def test_with_re_alignment_between_the_rounds(model: nn.Module, report: AlignmentReport) -> None:
    told: list[str] = []
    result = prune_result(
        model,
        data=X,
        report=report,
        macs=0.5,
        realignment={"rounds": 2},
        progress=lambda what, *_: told.append(what),
    )
    assert result.after["macs"] <= 0.5 * result.before["macs"]
    assert result.realigned > 0
    assert result.rounds == 2
    phases = list(dict.fromkeys(told))
    assert phases[:3] == [f"round 1: {stage}" for stage in (CHOOSE, CUT, STAGE)]
    assert phases[-1] == f"round 2: {STAGE}"
    assert any(phase.startswith("round 2: ") for phase in phases[3:-1])
    removed = result.plan.removed
    assert all(len(nodes) == len(set(nodes)) for nodes in removed.values())
    once = cut(model, report.graph, removed, X[:1]).model
    assert [p.shape for p in once.parameters()] == [p.shape for p in result.model.parameters()]


def test_more_rounds_than_there_are_nodes_to_remove(model: nn.Module, report: AlignmentReport) -> None:
    result = prune_result(
        model, data=X, report=report, budget={"nodes": 0.95}, realignment={"rounds": 5, "realign": False}
    )
    assert result.plan.after["nodes"] == 38
    _check(model, result, 5)


def test_everything_may_stay(model: nn.Module, report: AlignmentReport) -> None:
    result = prune_result(
        model, data=X, report=report, budget={"nodes": 1.0}, realignment={"rounds": 2, "realign": False}
    )
    assert result.plan.removed == {}
    with torch.no_grad():
        torch.testing.assert_close(result.model(X), model.eval()(X), atol=1e-4, rtol=1e-3)


def test_limits_refer_to_the_dense_model(model: nn.Module, report: AlignmentReport) -> None:
    fitted = {"realign": False, "rounds": 3}
    how: dict[str, Any] = {"data": X, "report": report, "realignment": fitted}
    alone = prune_result(
        model, budget={"nodes": 0.75}, selection={"round_to": 4, "exclude": "first", "min_nodes": 3}, **how
    )
    assert {n: g.size - len(g.removed) for n, g in alone.plan.groups.items()} == {"stem": 4, "first": 24}
    with pytest.raises(TsdistillError, match="cannot be met"):
        prune_result(model, budget={"nodes": 0.05}, **how)
    rounded = prune_result(model, budget={"nodes": 0.5}, selection={"round_to": 4}, **how)
    assert {group.size - len(group.removed) for group in rounded.plan.groups.values()} <= {4, 8, 12, 16}
    least = prune_result(model, budget={"nodes": 5 / 40}, **how)
    assert {n: g.size - len(g.removed) for n, g in least.plan.groups.items()} == {"stem": 2, "first": 3}


def test_a_group_that_is_put_back_stays_whole_in_every_round(
    model: nn.Module, report: AlignmentReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(
        model: nn.Module, graph: NodeGraph, removed: Mapping[str, Sequence[int]], example: Tensor
    ) -> Cut:
        able = {name: nodes for name, nodes in removed.items() if name != "first"}
        refused = tuple(Frozen(name, "it refuses") for name in removed if name not in able)
        return replace(cut(model, graph, able, example), put_back=refused)

    monkeypatch.setattr(pruning_state, "cut", refusing)
    result = prune_result(model, data=X, report=report, macs=0.6, realignment={"rounds": 3, "realign": False})
    assert result.after["macs"] <= 0.6 * result.before["macs"]
    assert [item.name for item in result.put_back] == ["first"]
    assert set(result.plan.removed) == {"stem"}
    assert result.notes == ("group 'first' could not be cut and is whole: it refuses",)
    _check(model, result, 3)


def test_what_is_free_leaves_in_the_first_round_and_changes_nothing() -> None:
    dense, x = mlp(5, 20, 4), torch.randn(200, 5)
    with torch.no_grad():
        for k in range(10):
            for parameter in dense[0].parameters():
                parameter[10 + k] = (k + 1) * parameter[k]
    result = prune_result(dense, data=x, budget={"nodes": 0.5}, realignment={"rounds": 3})
    assert result.plan.removed == {"0": list(range(10, 20))}
    assert set(result.plan.groups["0"].reasons) == {"free"}
    with torch.no_grad():
        torch.testing.assert_close(result.model(x), dense(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("groups", [2, 4])
def test_grouped_convolutions_go_by_rows_or_by_columns_in_all_rounds(groups: int) -> None:
    dense = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1, groups=groups), nn.ReLU(), nn.Conv2d(16, 12, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)),
    )
    randomise(dense)
    result = prune_result(dense, data=X, macs=0.25, realignment={"rounds": 3, "realign": False})
    assert result.after["macs"] <= 0.25 * result.before["macs"]
    assert result.plan.after == result.after
    once = cut(dense, trace(dense, X[:1]), result.plan.removed, X[:1]).model
    assert [p.shape for p in once.parameters()] == [p.shape for p in result.model.parameters()]


@pytest.mark.parametrize("rank", [1, 3])
def test_fewer_samples_than_nodes_and_a_singular_covariance(rank: int) -> None:
    dense = mlp(30, 40, 40, 3)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, rank, generator=generator) @ torch.randn(rank, 30, generator=generator)
    result = prune_result(dense, data=x, budget={"nodes": 0.4}, realignment={"rounds": 2})
    assert result.after["nodes"] == 32
    assert result.report is not None
    assert any("too few samples" in note and "regularised" in note for note in result.report.notes)
    with torch.no_grad():
        wanted, found = dense(x), result.model(x)
        assert bool(torch.isfinite(found).all())
        assert float((found - wanted).square().mean()) < float((wanted - wanted.mean(0)).square().mean())
    assert all(bool(torch.isfinite(value).all()) for value in result.model.state_dict().values())


def test_heads_that_one_round_leaves_a_single_coordinate_go_whole_in_the_next() -> None:
    tokens = torch.randint(6, 60, (60, 10), generator=torch.Generator().manual_seed(0))
    batches = [{"input_ids": batch} for batch in tokens.split(20)]
    model, free = encoder("BertForSequenceClassification"), {"uniform": False}
    result = prune_result(model, data=batches, macs=0.07, selection=free)
    assert result.after["macs"] <= 0.08 * result.before["macs"]
