from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.networks import images, mlp, randomise, residual
from tsdistill.alignment import AlignmentReport, analyze
from tsdistill.errors import TsdistillError
from tsdistill.pruning import PruningPlan, plan, prune_result
from tsdistill.pruning.compensate import compensate
from tsdistill.tracing import cut


def _cut(model: nn.Module, report: AlignmentReport, made: PruningPlan, example: Tensor) -> nn.Module:
    whole = copy.deepcopy(model)
    arrays = {name: np.array(nodes) for name, nodes in made.removed.items()}
    statistics = report.statistics
    assert compensate(whole, statistics.sites, statistics.observed, arrays, example) == ()
    done = cut(whole, report.graph, made.removed, example)
    assert not done.put_back
    return done.model


def _gap(model: nn.Module, other: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((model(x) - other(x)).abs().max() / model(x).abs().max())


def _linear(bias: bool, norm: bool) -> tuple[nn.Sequential, Tensor]:
    behind = [nn.BatchNorm1d(6)] if norm else []
    model = nn.Sequential(
        nn.Linear(5, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 6, bias=bias), *behind, nn.Linear(6, 3)
    )
    return model, torch.randn(300, 5, generator=torch.Generator().manual_seed(1))


def _convolution(bias: bool, norm: bool, padding: int = 0) -> tuple[nn.Sequential, Tensor]:
    behind = [nn.BatchNorm2d(6)] if norm else []
    model = nn.Sequential(
        nn.Conv2d(3, 10, 3),
        nn.BatchNorm2d(10),
        nn.ReLU(),
        nn.Conv2d(10, 6, 3, bias=bias, padding=padding),
        *behind,
        nn.Conv2d(6, 3, 1),
    )
    return model, images(60)


def _zero_fan_out(model: nn.Sequential) -> list[int]:
    model[3].weight[:, [2, 7]] = 0
    return [2, 7]


def _dead(model: nn.Sequential) -> list[int]:
    model[1].weight[4], model[1].bias[4] = 0, -0.5
    model[0].bias[8], model[1].bias[8] = -1e3, -0.1
    return [4, 8]


def _duplicate(model: nn.Sequential) -> list[int]:
    """Node 6 is 2.5 times node 1, through the batch norm; node 9 is node 3 from a scaled fan-in."""
    model[0].weight[6], model[0].bias[6] = model[0].weight[1], model[0].bias[1]
    model[1].weight[6], model[1].bias[6] = 2.5 * model[1].weight[1], 2.5 * model[1].bias[1]
    model[1].running_mean[6], model[1].running_var[6] = model[1].running_mean[1], model[1].running_var[1]
    assert isinstance(model[1], nn.BatchNorm1d | nn.BatchNorm2d)
    model[1].eps = 0.0
    model[0].weight[9], model[0].bias[9] = 3 * model[0].weight[3], 3 * model[0].bias[3]
    model[1].weight[9], model[1].bias[9] = model[1].weight[3], model[1].bias[3]
    model[1].running_mean[9] = 3 * model[1].running_mean[3]
    model[1].running_var[9] = 9 * model[1].running_var[3]
    return [6, 9]


def _constant(model: nn.Sequential) -> list[int]:
    model[1].weight[5], model[1].bias[5] = 0, 1.75
    return [5]


CASES = [_zero_fan_out, _dead, _duplicate, _constant]
PLACES = [(True, False), (False, True), (True, True)]


@pytest.mark.parametrize("make", [_linear, _convolution])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("bias", "norm"), PLACES)
def test_every_exact_case_leaves_the_function_as_it_is(
    make: Callable[[bool, bool], tuple[nn.Sequential, Tensor]],
    case: Callable[[nn.Sequential], list[int]],
    bias: bool,
    norm: bool,
) -> None:
    model, x = make(bias, norm)
    randomise(model)
    with torch.no_grad():
        free = case(model)
    report = analyze(model, data=x, analysis={"positions": None})
    made = plan(report, budget="lossless")
    assert made.removed == {"0": free}
    assert made.budget == "lossless"
    assert set(made.groups["0"].reasons) <= {"free", "dead"}
    assert (
        _gap(model, _cut(model, report, made, x[:1]), torch.flip(x, [0, 1]) if x.ndim == 2 else images(50, 9))
        < 3e-6
    )


@pytest.mark.parametrize("make", [_linear, _convolution])
def test_all_of_them_together(make: Callable[..., tuple[nn.Sequential, Tensor]]) -> None:
    model, x = make(True, True)
    randomise(model)
    with torch.no_grad():
        free = sorted(node for case in CASES for node in case(model))
    report = analyze(model, data=x, analysis={"positions": None})
    made = plan(report, budget="lossless")
    assert made.removed["0"] == free
    assert _gap(model, _cut(model, report, made, x[:1]), x) < 3e-6


@pytest.mark.parametrize("kind", ["bare", "padding"])
def test_a_constant_stays_where_there_is_no_place_for_it(kind: str) -> None:
    make: dict[str, Any] = {"bare": _linear(False, False), "padding": _convolution(True, True, padding=1)}
    model, x = make[kind]
    randomise(model)
    with torch.no_grad():
        _constant(model)
    report = analyze(model, data=x, analysis={"positions": None})
    assert plan(report, budget="lossless").removed == {}
    cheap = plan(report, budget={"nodes": 0.7})
    assert 5 not in cheap.removed.get("0", [])


@pytest.mark.parametrize("padding", [0, 1])
def test_of_several_constants_one_stays_for_all_where_there_is_no_place(padding: int) -> None:
    model, x = _convolution(False, False, padding=padding)
    randomise(model)
    with torch.no_grad():
        _constant(model)
        model[1].weight[[2, 8]], model[1].bias[[2, 8]] = 0, torch.tensor([0.5, 3.0])
    report = analyze(model, data=x, analysis={"positions": None})
    made = plan(report, budget="lossless")
    assert made.removed == {"0": [5, 8]}
    assert _gap(model, _cut(model, report, made, x[:1]), images(50, 9)) < 3e-6


def test_a_zero_may_leave_in_front_of_padding() -> None:
    model, x = _convolution(True, False, padding=1)
    randomise(model)
    with torch.no_grad():
        free = sorted(_dead(model) + _zero_fan_out(model) + _duplicate(model))
    report = analyze(model, data=x, analysis={"positions": None})
    made = plan(report, budget="lossless")
    assert made.removed == {"0": free}
    assert _gap(model, _cut(model, report, made, x[:1]), images(50, 9)) < 3e-6


def test_through_streams_and_flattened_maps() -> None:
    model, x = residual(), images(64)
    with torch.no_grad():
        for layer, norm in ((model.stem, model.norm), (model.second, model.second_norm)):
            layer.weight[6] = layer.weight[4]
            norm.weight[6], norm.bias[6] = 2.5 * norm.weight[4], 2.5 * norm.bias[4]
            norm.running_mean[6], norm.running_var[6] = norm.running_mean[4], norm.running_var[4]
        model.first_norm.weight[3], model.first_norm.bias[3] = 0, 2
        model.second.weight[:, 10] = 0
    report = analyze(model, data=x, analysis={"positions": None})
    made = plan(report, budget="lossless")
    assert made.removed == {"stem": [6], "first": [3, 10]}
    assert _gap(model, _cut(model, report, made, x[:1]), images(50, 9)) < 3e-6


def test_with_a_budget_they_leave_first_and_cost_nothing() -> None:
    model, x = _convolution(True, True)
    randomise(model)
    with torch.no_grad():
        free = sorted(node for case in CASES for node in case(model))
    report = analyze(model, data=x, analysis={"positions": None})
    made = plan(report, budget={"nodes": 9 / 16})
    assert made.removed == {"0": free}
    assert set(made.groups["0"].costs) == {0.0}
    assert _gap(model, _cut(model, report, made, x[:1]), x) < 3e-6
    more = plan(report, budget={"nodes": 0.45})
    assert more.groups["0"].removed[:7] == made.groups["0"].removed
    assert more.after["nodes"] == 7


def test_limits_hold_for_what_is_free_too() -> None:
    model, x = mlp(5, 20, 12, 4), torch.randn(300, 5)
    with torch.no_grad():
        for layer in (2, 4):
            model[layer].weight[:, :9] = 0
    report = analyze(model, data=x)
    assert {name: len(gone) for name, gone in plan(report, budget="lossless").removed.items()} == {
        "0": 9,
        "2": 9,
    }
    assert plan(report, budget="lossless", selection={"only": "2"}).removed.keys() == {"2"}
    assert plan(report, budget="lossless", selection={"exclude": "2"}).removed.keys() == {"0"}
    rounded = plan(report, budget="lossless", selection={"round_to": 8}).after
    assert rounded["nodes"] == 16 + 8
    assert plan(report, budget="lossless", selection={"min_nodes": 18}).removed == {"0": [0, 1]}


def test_one_node_stays_when_all_are_free() -> None:
    model = mlp(5, 6, 4)
    with torch.no_grad():
        model[2].weight.zero_()
    made = plan(analyze(model, data=torch.randn(200, 5)), budget="lossless")
    assert made.after["nodes"] == 1


def test_lossless_and_a_budget_contradict() -> None:
    report = analyze(mlp(5, 6, 4), data=torch.randn(100, 5))
    with pytest.raises(TsdistillError, match="lossless"):
        plan(report, budget="lossless", macs=0.5)


def test_pruning_without_loss_from_end_to_end() -> None:
    model, x = _convolution(False, True)
    randomise(model)
    with torch.no_grad():
        free = sorted(node for case in CASES for node in case(model))
    result = prune_result(model, data=x, budget="lossless")
    assert result.plan.removed == {"0": free}
    assert result.realigned == 0
    assert _gap(model, result.model, images(50, 9)) < 3e-6
    nothing = prune_result(residual(), data=images(40), budget="lossless")
    assert nothing.before == nothing.after
    assert _gap(residual(), nothing.model, images(9)) == 0
