from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.networks import images, mlp, randomise, residual
from tests.pruning.selection.chains import CostTerms
from tsdistill.alignment import analyze
from tsdistill.errors import BudgetUnreachable, TsdistillError
from tsdistill.options import SelectionOptions
from tsdistill.pruning import plan
from tsdistill.pruning.selection.budget import Budget, budget_of
from tsdistill.pruning.selection.planner import choose_nodes
from tsdistill.pruning.selection.unreachable_budget import check_reachable
from tsdistill.pruning.selection.width_constraints import constraints_of
from tsdistill.tracing import cut


def test_the_plan_meets_its_budget_and_explains_itself() -> None:
    report = analyze(residual(width=16, inner=24), data=images(200))
    made = plan(report, macs="60%")
    assert made.after["macs"] <= 0.6 * made.before["macs"]
    assert made.before["params"] == report.params
    assert made.after["nodes"] == made.before["nodes"] - sum(len(g.removed) for g in made.groups.values())
    assert set(made.groups) == {"stem", "first"}
    for group in made.groups.values():
        assert len(group.removed) == len(group.reasons) == len(group.costs)
        assert len(set(group.removed)) == len(group.removed) < group.size
    assert "0.6 of the MACs" in made.budget


def test_a_smaller_budget_removes_more_of_the_same() -> None:
    report = analyze(residual(width=16, inner=24), data=images(200))
    some, more = plan(report, budget={"nodes": 0.8}).removed, plan(report, budget={"nodes": 0.5}).removed
    for name, nodes in some.items():
        assert set(nodes) <= set(more[name])


def test_groups_that_are_left_whole_stay_so() -> None:
    report = analyze(residual(width=16, inner=24), data=images(100))
    made = choose_nodes(report, Budget("nodes", 0.7), SelectionOptions(), whole=["first"])
    assert list(made.removed) == ["stem"]
    with pytest.raises(TsdistillError, match="cannot be met"):
        choose_nodes(report, Budget("nodes", 0.3), SelectionOptions(), whole=["first"])


def test_amounts_are_met_and_those_above_the_whole_are_refused() -> None:
    report = analyze(residual(width=16, inner=24), data=images(100))
    made = plan(report, macs="200k")
    assert made.after["macs"] <= 200_000 < made.before["macs"]
    assert plan(report, budget={"nodes": 30}).after["nodes"] == 30
    with pytest.raises(TsdistillError, match="above what the model has"):
        plan(report, budget={"params": "1G"})
    with pytest.raises(TsdistillError, match=r"(\d+) MACs") as caught:
        plan(report, macs=1000)
    least = str(caught.value).split("reached is ")[1].split()[0]
    assert plan(report, macs=least).after["macs"] == int(least)


def test_a_limit_takes_the_place_of_the_budget_s_own() -> None:
    report = analyze(residual(width=16, inner=24), data=images(100))
    some = choose_nodes(report, Budget("macs", 0.3), SelectionOptions(), limit=0.8 * report.macs)
    assert 0.7 < some.after["macs"] / report.macs <= 0.8
    assert "0.3 of the MACs" in some.budget
    assert (
        choose_nodes(report, Budget("macs", limit=1e9), SelectionOptions(), limit=0.8 * report.macs).removed
        == some.removed
    )


def test_what_can_be_reached_is_known_before_anything_is_scored() -> None:
    report = analyze(residual(width=16, inner=24), data=images(100))
    with pytest.raises(BudgetUnreachable, match=r"reached is (\S+);") as caught:
        check_reachable(report, Budget("macs", 0.001), SelectionOptions(round_to=4))
    least = float(str(caught.value).split("reached is ")[1].split(";")[0])
    check_reachable(report, Budget("macs", least), SelectionOptions(round_to=4))
    made = plan(report, macs=least, selection={"round_to": 4})
    assert made.after == {**made.after, "nodes": 4 + 4}
    with pytest.raises(BudgetUnreachable):
        plan(report, macs=least - 0.002, selection={"round_to": 4})
    small = choose_nodes(
        report, Budget("nodes", 0.2), SelectionOptions(), dense={"stem": 40, "first": 40}
    ).after["nodes"]
    assert small == 4 + 4


def test_latency_goes_by_the_price() -> None:
    report, price = analyze(residual(width=16, inner=24), data=images(100)), CostTerms()

    def seconds(kept: dict[str, int]) -> float:
        widths = {**report.graph.widths, **kept}
        return price.fixed + sum(rate * term.value(widths) for term, rate in price.terms(report.graph))

    whole = seconds({})
    for latency in (0.7, f"{0.7 * whole}s"):
        made = choose_nodes(report, budget_of(latency=latency), SelectionOptions(), price=price)
        kept = {name: group.size - len(group.removed) for name, group in made.groups.items()}
        assert 0.6 * whole < seconds(kept) <= 0.7 * whole
    with pytest.raises(TsdistillError, match="price"):
        plan(report, budget={"latency": 0.7})


class Attention(nn.Module):
    """A patch embedding, one attention layer of four heads of four, an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 24, 4, stride=4)
        self.norm, self.qkv, self.proj = nn.LayerNorm(24), nn.Linear(24, 48), nn.Linear(16, 24)
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(24), nn.Linear(24, 40), nn.Linear(40, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, -1, 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(y.transpose(1, 2).reshape(b, n, -1))
        return self.head((x + self.fc2(torch.relu(self.fc1(self.norm2(x))))).mean(1))


def _mobile() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 24, 1),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, groups=24, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 32, 1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, groups=4, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 5, 1),
    )


@pytest.mark.parametrize("make", [Attention, _mobile, lambda: residual(width=20, inner=28)])
@pytest.mark.parametrize("how", [{"macs": 0.6}, {"params": 0.7}, {"nodes": "60%"}])
def test_rounded_plans_of_any_kind_of_layer_can_be_cut(make: Any, how: dict[str, Any]) -> None:
    model = make()
    randomise(model)
    x = images(80)
    report = analyze(model, data=x)
    made = plan(report, budget=how, selection={"round_to": 4})
    (kind,) = how
    assert made.after[kind] <= (0.7 if kind == "params" else 0.6) * made.before[kind]
    done = cut(model, report.graph, made.removed, x[:1])
    assert not done.put_back
    steps = constraints_of(report.graph, round_to=4).steps
    for name, group in made.groups.items():
        assert not group.removed or (group.size - len(group.removed)) % steps[name] == 0
    if isinstance(done.model, Attention):
        assert done.model.embed.out_channels % 4 == done.model.fc1.out_features % 4 == 0
        assert done.model.proj.in_features % 4 == 0
    elif isinstance(done.model, nn.Sequential):
        assert done.model[0].out_channels % 4 == done.model[4].out_channels % 4 == 0


def test_patterns_choose_the_groups() -> None:
    report = analyze(mlp(4, 20, 20, 20, 3), data=torch.randn(300, 4))
    assert set(plan(report, budget={"nodes": 0.8}, selection={"only": ["0", "4"]}).removed) <= {"0", "4"}
    assert "2" not in plan(report, budget={"nodes": 0.6}, selection={"exclude": "2"}).removed
    with pytest.raises(TsdistillError, match="exclude 'conv'"):
        plan(report, budget={"nodes": 0.6}, selection={"exclude": ["conv"]})


@pytest.mark.parametrize("rank", [1, 3])
def test_singular_covariances_and_fewer_samples_than_nodes_are_regularised(rank: int) -> None:
    model = mlp(30, 40, 3)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, rank, generator=generator) @ torch.randn(rank, 30, generator=generator)
    report = analyze(model, data=x)
    assert any("too few samples" in note and "regularised" in note for note in report.notes)
    made = plan(report, budget={"nodes": 0.4})
    assert made.after["nodes"] == 16
    assert np.isfinite(made.groups["0"].costs).all()


def test_a_flattened_map_wider_than_the_samples_is_noted() -> None:
    model = residual(width=16, side=8)
    assert not any("too few" in note for note in analyze(model, data=images(100)).notes)
    assert any("too few" in note and "stem" in note for note in analyze(model, data=images(40)).notes)


def test_the_way_out_of_an_impossible_budget_is_one_that_helps() -> None:
    report = analyze(mlp(6, 20, 16, 3), data=torch.randn(100, 6))

    def said(**constraints: Any) -> str:
        with pytest.raises(BudgetUnreachable) as caught:
            plan(report, budget={"params": 0.01}, selection=constraints)
        return str(caught.value)

    assert "lower min_nodes" in said()
    assert "lower min_nodes" not in said(min_nodes=1)
    assert "let more groups be cut" in said(min_nodes=1, exclude="0")
    report = replace(report, groups=tuple(replace(group, observed=False) for group in report.groups))
    assert "min_nodes" not in said()
    assert "no layer that reads these can be observed: 0, 2" in said()
