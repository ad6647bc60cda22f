from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.networks import images, mlp, randomise, residual
from tsdistill.alignment import analyze
from tsdistill.errors import TsdistillError
from tsdistill.models import InputSpec, ModelInfo, attach, info_of
from tsdistill.pruning import PruningPlan, plan, prune, prune_result, pruning_state
from tsdistill.tracing import Cut, Frozen, NodeGraph, cut


def _agreement(model: nn.Module, other: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(1) == other(x).argmax(1)).float().mean())


@pytest.mark.parametrize("kind", ["macs", "params", "nodes"])
def test_in_one_call_the_budget_is_met_and_the_original_is_as_it_was(kind: str) -> None:
    model, x = residual(width=16, inner=24), images(300)
    budget: dict[str, Any] = {kind: 0.6}
    model.train()
    model.norm.eval()
    state = copy.deepcopy(model.state_dict())
    result = prune_result(model, data=x, budget=budget)
    assert result.after[kind] <= 0.6 * result.before[kind]
    assert result.after == dict(result.plan.after)
    assert result.after["params"] == sum(p.numel() for p in result.model.parameters())
    assert result.model.training
    assert not result.model.norm.training
    assert model.training
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    modules = [*model.modules(), *result.model.modules()]
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in modules)
    assert _agreement(model.eval(), result.model.eval(), x) > 0.6


@pytest.mark.parametrize("plan", ["plan.json", {"format": 1}, 0.5])
def test_a_plan_of_another_type_is_refused(plan: Any) -> None:
    with pytest.raises(TsdistillError, match="PruningPlan"):
        prune(residual(), plan, data=images(8))


def test_an_iterator_of_batches_is_read_once() -> None:
    model, x = residual(), images(96)
    from_iterator = prune(model, data=iter(x.split(32)), macs=0.7)
    from_list = prune(model, data=list(x.split(32)), macs=0.7)
    for a, b in zip(from_iterator.parameters(), from_list.parameters(), strict=True):
        assert torch.equal(a, b)


def test_it_is_deterministic_and_leaves_the_global_generator_alone() -> None:
    model, x = residual(), images(100)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = prune(model, data=x, macs=0.7), prune(model, data=x, macs=0.7)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_free_nodes_go_first_and_change_nothing() -> None:
    model, x = mlp(5, 20, 4), torch.randn(300, 5)
    with torch.no_grad():
        for k in range(10):
            for parameter in model[0].parameters():
                parameter[10 + k] = (k + 1) * parameter[k]
    result = prune_result(model, data=x, budget={"nodes": 0.5})
    assert result.plan.removed == {"0": list(range(10, 20))}
    assert set(result.plan.groups["0"].reasons) == {"free"}
    with torch.no_grad():
        torch.testing.assert_close(result.model(x), model(x), atol=1e-5, rtol=1e-5)


def test_a_plan_applies_to_another_checkpoint_with_its_own_data() -> None:
    first, second, x = residual(seed=0), residual(seed=1), images(300)
    made = PruningPlan.from_json(plan(analyze(first, data=x), macs=0.7).to_json())
    result = prune_result(second, made, data=x)
    assert result.report is None
    assert {name: sorted(nodes) for name, nodes in result.plan.removed.items()} == made.removed
    assert result.after == dict(made.after)
    from_report = prune(first, made, data=x)
    sizes = [p.shape for p in from_report.parameters()]
    assert sizes == [p.shape for p in result.model.parameters()]


@pytest.mark.parametrize("realign", [False, True])
def test_the_plan_made_from_a_report_prunes_as_the_one_call_does(realign: bool) -> None:
    model, x = residual(), images(200)
    report = analyze(model, data=x)
    made = plan(report, macs=0.6)
    two_steps = prune_result(model, made, data=x, realignment={"realign": realign})
    one_step = prune_result(model, data=x, macs=0.6, realignment={"realign": realign, "rounds": 1})
    reused = prune_result(
        model, data=x, macs=0.6, realignment={"realign": realign, "rounds": 1}, report=report
    )
    assert one_step.plan.removed == reused.plan.removed == made.removed
    assert two_steps.rounds == one_step.rounds == reused.rounds == 1
    assert (two_steps.realigned > 0) == (one_step.realigned > 0) == realign
    for other in (one_step, reused):
        for a, b in zip(two_steps.model.parameters(), other.model.parameters(), strict=True):
            assert torch.equal(a, b)


def test_pruning_twice_works_and_history_accumulates() -> None:
    model, x = residual(width=16, inner=24), images(100)
    attach(model, ModelInfo(arch="factory.py:make", input=InputSpec((3, 8, 8))))
    once = prune(model, data=x, macs=0.7)
    twice = prune(once, data=x, macs=0.7)
    assert info_of(twice).arch == "factory.py:make"
    assert info_of(twice).input == InputSpec((3, 8, 8))
    assert sum(p.numel() for p in twice.parameters()) < sum(p.numel() for p in once.parameters())


def test_repaired_attributes_are_part_of_the_history() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)
    )
    randomise(model)
    small = prune(model, data=images(60), macs=0.6)
    (item,) = info_of(small).attributes
    assert (item.module, item.name) == ("2", "groups")
    assert item.value == small[2].groups == small[2].in_channels < 8
    smaller = prune(small, data=images(60), macs=0.7)
    (item,) = info_of(smaller).attributes
    assert item.value == smaller[2].groups < small[2].groups


def test_a_teacher_steers_the_selection() -> None:
    teacher, student, x = mlp(6, 3, 2, seed=5), mlp(6, 10, 2, seed=6), torch.randn(1000, 6)
    with torch.no_grad():
        for mine, theirs in zip(student[0].parameters(), teacher[0].parameters(), strict=True):
            mine[[1, 4, 7]] = theirs
    result = prune_result(student, data=x, budget={"nodes": 0.3}, teacher=teacher)
    assert result.plan.removed == {"0": [0, 2, 3, 5, 6, 8, 9]}


def test_keep_strong_makes_a_difference() -> None:
    model, x = mlp(5, 12, 4), torch.randn(500, 5)
    with torch.no_grad():
        model[2].weight[:, :6] *= 1e-3
    report = analyze(model, data=x)
    strong = plan(report, budget={"nodes": 0.5})
    equal = plan(report, budget={"nodes": 0.5}, selection={"keep_strong": False})
    assert strong.removed == {"0": [0, 1, 2, 3, 4, 5]}
    assert equal.removed != strong.removed


def test_every_group_keeps_its_minimum() -> None:
    model, x = residual(width=16, inner=20), images(100)
    report = analyze(model, data=x)
    with pytest.raises(TsdistillError, match="smallest that can be reached is") as caught:
        plan(report, budget={"nodes": 0.05})
    least = float(str(caught.value).split("reached is ")[1].split(";")[0])
    after = plan(report, budget={"nodes": least}).after["nodes"]
    assert after == 2 + 2
    assert plan(report, budget={"nodes": 0.06}, selection={"min_nodes": 1}).after["nodes"] == 2
    with pytest.raises(TsdistillError, match="at least 1"):
        plan(report, budget={"nodes": 0.5}, selection={"min_nodes": 0})


def test_without_data_the_source_is_synthetic() -> None:
    model = residual()
    attach(model, ModelInfo(input=InputSpec((3, 8, 8))))
    result = prune_result(model, macs=0.7, inputs={"samples": 48})
    assert "synthetic" in result.data.lower() or "dead leaves" in result.data.lower()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no budget"),
        ({"macs": 0.5, "budget": {"params": 0.5}}, "exactly one"),
        ({"macs": 1.5}, "at most 1"),
    ],
)
def test_budgets_that_contradict_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TsdistillError, match=message):
        prune(mlp(4, 5, 2), data=torch.randn(20, 4), **options)


def test_a_plan_and_a_budget_or_a_plan_that_does_not_fit_are_one_line() -> None:
    made = plan(analyze(mlp(4, 6, 2), data=torch.randn(50, 4)), budget={"nodes": 0.5})
    with pytest.raises(TsdistillError, match=r"plan .*budget"):
        prune(mlp(4, 6, 2), made, data=torch.randn(20, 4), macs=0.5)
    with pytest.raises(TsdistillError, match=r"\b8\b"):
        prune(mlp(4, 8, 2), made, data=torch.randn(20, 4))


def test_what_cannot_be_asked_for_together_is_one_line() -> None:
    model, x = mlp(4, 6, 2), torch.randn(40, 4)
    made = plan(analyze(model, data=x), budget={"nodes": 0.5})
    attach(model, ModelInfo(input=InputSpec((4,))))
    with pytest.raises(TsdistillError, match="data") as caught:
        prune(model, budget={"nodes": 0.5}, realignment={"realign": True}, inputs={"samples": 20})
    assert "\n" not in str(caught.value)
    with pytest.raises(TsdistillError, match="nothing is to be re-aligned") as caught:
        prune(model, data=x, budget="lossless", realignment={"realign": True})
    assert "\n" not in str(caught.value)
    with pytest.raises(TsdistillError, match="plan ") as caught:
        prune(model, made, data=x, realignment={"rounds": 2})
    assert "\n" not in str(caught.value)
    for rounds in (0, -1, 1.5, True, "2"):
        with pytest.raises(TsdistillError, match="rounds "):
            prune(model, data=x, budget={"nodes": 0.5}, realignment={"rounds": rounds})


def test_re_alignment_is_the_default_with_real_data_only() -> None:
    model, x = residual(), images(100)
    attach(model, ModelInfo(input=InputSpec((3, 8, 8))))
    assert prune_result(model, data=x, budget={"nodes": 0.8}, realignment={"rounds": 1}).realigned > 0
    without = prune_result(model, data=x, budget={"nodes": 0.4}, realignment={"realign": False})
    assert (without.realigned, without.rounds) == (0, 1)
    made_up = prune_result(model, budget={"nodes": 0.4}, inputs={"samples": 64})
    assert (made_up.realigned, made_up.rounds) == (0, 1)
    assert prune_result(model, data=x, budget="lossless").realigned == 0


def test_a_group_that_cannot_be_cut_is_made_up_for_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(
        model: nn.Module, graph: NodeGraph, removed: Mapping[str, Sequence[int]], example: Tensor
    ) -> Cut:
        able = {name: nodes for name, nodes in removed.items() if name != "first"}
        done = cut(model, graph, able, example)
        refused = tuple(Frozen(name, "it refuses") for name in removed if name not in able)
        return replace(done, put_back=refused)

    model, x = residual(width=16, inner=24), images(100)
    made = plan(analyze(model, data=x), macs=0.7)
    monkeypatch.setattr(pruning_state, "cut", refusing)
    result = prune_result(model, data=x, macs=0.7)
    assert [item.name for item in result.put_back] == ["first"]
    assert result.after["macs"] <= 0.7 * result.before["macs"]
    assert "'first' could not be cut and is whole: it refuses" in result.notes[0]
    followed = prune_result(model, made, data=x)
    assert followed.plan is made
    assert followed.after["macs"] > 0.7 * followed.before["macs"]
    assert len(followed.notes) == 1
