from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.networks import images, mlp, randomise, residual
from tsdistill.alignment import AlignmentReport, analyze
from tsdistill.pruning.selection.pruning_order import PruningOrder, families, output_state, score
from tsdistill.statistics import fan_out as fan_out_module
from tsdistill.statistics.covariance import Covariance
from tsdistill.statistics.linear_prediction import shrinkage, standardise


def _score(
    report: AlignmentReport, keep_strong: bool = True, floor: int = 1
) -> dict[tuple[str, ...], PruningOrder]:
    names = [group.name for group in report.groups]
    found = score(report, dict.fromkeys(names, floor), dict.fromkeys(names, 1.0), keep_strong=keep_strong)
    return {node_order.groups: node_order for node_order in found}


def _without_fan_outs(report: AlignmentReport) -> AlignmentReport:
    return replace(report, statistics=replace(report.statistics, fan_outs={}))


def _direct(report: AlignmentReport, site: str, kept: np.ndarray, weight: np.ndarray) -> float:
    """Σ ω times what ridge least squares from the kept features leaves, in standardised features."""
    covariance = report.statistics.observed.covariances[site]
    return _left(covariance, kept, np.diag(weight), np.diag(covariance.std**-1.0))


def _of_outputs(report: AlignmentReport, site: str, gone: np.ndarray) -> float:
    """tr(E[β] Cov(W x | what is left of x)), the prediction by ridge least squares: channels ``gone``."""
    fan_out = report.statistics.fan_outs[site]
    channels = np.arange(fan_out.weight.shape[1]) // fan_out.taps
    kept = np.flatnonzero(~np.isin(channels, gone))
    return _left(fan_out.covariance, kept, fan_out.beta, fan_out.weight)


def _left(covariance: Covariance, kept: np.ndarray, beta: np.ndarray, weight: np.ndarray) -> float:
    c = standardise(covariance.matrix, covariance.std)
    ridge = shrinkage(c, covariance.rows)
    scaled = weight * covariance.std
    cross = scaled @ c[:, kept]
    inner = np.linalg.inv(c[np.ix_(kept, kept)] + ridge * np.eye(len(kept)))
    return float(np.trace(beta @ (scaled @ c @ scaled.T - cross @ inner @ cross.T)))


@pytest.mark.parametrize("keep_strong", [True, False])
def test_costs_equal_the_residuals_of_direct_regressions(keep_strong: bool) -> None:
    report = analyze(mlp(5, 12, 4), data=torch.randn(600, 5))
    statistics = report.statistics
    assert set(statistics.fan_outs) == {"2"}
    weight = statistics.sensitivity["2"] * statistics.observed.covariances["2"].var
    weight = weight if keep_strong else np.ones(12)
    node_order = _score(_without_fan_outs(report) if keep_strong else report, keep_strong)[("0",)]
    kept = np.arange(12)
    before = _direct(report, "2", kept, weight)
    for node, cost in zip(node_order.node, node_order.cost, strict=True):
        kept = kept[kept != node]
        after = _direct(report, "2", kept, weight)
        assert cost == pytest.approx(after - before, rel=1e-5, abs=1e-9)
        before = after
    assert len(kept) == 1


def test_costs_add_up_over_readers_and_positions() -> None:
    report = analyze(residual(), data=images(300))
    node_order = _score(_without_fan_outs(report))[("stem",)]
    statistics = report.statistics
    gone = node_order.node[0]
    total = 0.0
    for reading in statistics.sites.readings["stem"]:
        covariance = statistics.observed.covariances[reading.site]
        weight = statistics.sensitivity[reading.site] * covariance.var
        everything = np.arange(len(weight))
        kept = np.setdiff1d(everything, reading.features[gone])
        total += _direct(report, reading.site, kept, weight) - _direct(
            report, reading.site, everything, weight
        )
    assert node_order.cost[0] == pytest.approx(total, rel=1e-5)


def test_costs_are_what_the_outputs_of_the_layers_that_read_lose() -> None:
    """Whole kernels of a 3x3 and a 1x1 convolution and of a flattened map, all along two eliminations."""
    report = analyze(residual(), data=images(300))
    readings = report.statistics.sites.readings
    assert {reading.site for reading in readings["stem"]} == {"first", "head"}
    taps = {site: fan_out.taps for site, fan_out in report.statistics.fan_outs.items()}
    assert taps == {"first": 9, "second": 1, "head": 1}
    scores = _score(report)
    for name in ("stem", "first"):
        node_order = scores[(name,)]
        before = sum(_of_outputs(report, reading.site, np.zeros(0)) for reading in readings[name])
        for end, cost in enumerate(node_order.cost, 1):
            nodes = node_order.node[:end]
            after = sum(_of_outputs(report, r.site, r.features[nodes]) for r in readings[name])
            assert cost == pytest.approx(after - before, rel=1e-5, abs=1e-9)
            before = after


def test_wide_kernels_cost_what_their_channels_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    """tr(Ω Cov(x_R | x_K)) over channels, all along an elimination."""
    monkeypatch.setattr(fan_out_module, "WIDEST", 0)
    report = analyze(residual(), data=images(300))
    fan_out = report.statistics.fan_outs["first"]
    assert fan_out.nearby is not None
    c = standardise(fan_out.covariance.matrix, fan_out.covariance.std)
    ridge = shrinkage(c, fan_out.covariance.rows)
    omega = fan_out.gram(np.diag(fan_out.covariance.std))
    state = output_state(fan_out, [(0, report.statistics.sites.readings["stem"][0])], np.zeros(1, dtype=int))
    kept = np.arange(len(c))
    costs = np.zeros(len(c))
    for node in kept:
        rest = np.delete(kept, node)
        inner = np.linalg.inv(c[np.ix_(rest, rest)] + ridge * np.eye(len(rest)))
        whole = np.linalg.inv(c + ridge * np.eye(len(c)))
        left, before = c - c[:, rest] @ inner @ c[rest], c - c @ whole @ c
        costs[node] = np.trace(omega @ (left - before))
    np.testing.assert_allclose(state.increments(len(c)), costs, rtol=1e-5)


def test_many_samples_give_the_conditional_covariance_of_whole_kernels() -> None:
    """tr(E[β] W_R Cov(x_R | x_K) W_Rᵀ) without any ridge, of the first node to leave."""
    x = images(1500, side=6)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    randomise(model)
    report = analyze(model, data=x, analysis={"strength_samples": 1500})
    node_order = _score(report)[("0",)]
    fan_out = report.statistics.fan_outs["2"]
    with torch.no_grad():
        met = nn.functional.unfold(model[1](model[0](x)), 3).transpose(1, 2).reshape(-1, 54).double().numpy()
    precision = np.linalg.inv(np.cov(met.T))
    gone = 9 * node_order.node[0] + np.arange(9)
    given_the_rest = np.linalg.inv(precision[np.ix_(gone, gone)])
    moved = model[2].weight.detach().double().flatten(1).numpy()[:, gone]
    lost = np.trace(fan_out.beta @ moved @ given_the_rest @ moved.T)
    assert node_order.cost[0] == pytest.approx(lost, rel=0.05)


def test_what_one_node_gives_another_takes_back_is_seen() -> None:
    """Two nodes that cancel in every output cost nothing together, however strong each one is."""
    model = mlp(6, 8, 4)
    with torch.no_grad():
        model[0].weight[5] = model[0].weight[2]
        model[0].bias[5] = model[0].bias[2] + 0.01
        model[2].weight[:, 5] = -model[2].weight[:, 2]
        model[2].weight[:, [2, 5]] *= 20
    report = analyze(model, data=torch.randn(2000, 6))
    assert set(_score(report)[("0",)].node[:2].tolist()) == {2, 5}


def test_free_nodes_come_first_and_cost_nothing() -> None:
    model = mlp(5, 12, 4)
    with torch.no_grad():
        model[2].weight[:, 3] = 0
        model[0].weight[8], model[0].bias[8] = 5 * model[0].weight[2], 5 * model[0].bias[2]
        model[0].bias[10] = -1e3
    node_order = _score(analyze(model, data=torch.randn(600, 5)))[("0",)]
    assert sorted(node_order.node[:3].tolist()) == [3, 8, 10]
    assert node_order.cost[:3].tolist() == [0, 0, 0]
    assert node_order.free.tolist() == [True] * 3 + [False] * 8
    assert node_order.cost[3:].min() > 0


def test_a_teacher_s_nodes_are_the_targets() -> None:
    teacher, student, x = mlp(6, 3, 2, seed=5), mlp(6, 10, 2, seed=6), torch.randn(2000, 6)
    with torch.no_grad():
        student[0].weight[[1, 4, 7]] = teacher[0].weight * 2
        student[0].bias[[1, 4, 7]] = teacher[0].bias * 2
    for keep_strong in (True, False):
        node_order = _score(analyze(student, teacher, x), keep_strong, floor=3)[("0",)]
        assert set(node_order.node.tolist()) == set(range(10)) - {1, 4, 7}


def test_keep_strong_keeps_what_serves_the_strong_teacher_node() -> None:
    teacher, student, x = mlp(6, 2, 2, seed=5), mlp(6, 2, 2, seed=6), torch.randn(2000, 6)
    with torch.no_grad():
        student[0].load_state_dict(teacher[0].state_dict())
    for strong in (0, 1):
        with torch.no_grad():
            teacher[2].weight.fill_(0.01)
            teacher[2].weight[:, strong] = 10
        node_order = _score(analyze(student, teacher, x))[("0",)]
        assert node_order.node.tolist() == [1 - strong]


class Concat(nn.Module):
    """Two layers side by side, read together; a third on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(4, 6)
        self.c, self.d = nn.Linear(12, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([torch.relu(self.a(x)), torch.relu(self.b(x))], 1)
        return self.d(torch.relu(self.c(both)))


def test_twins_in_groups_that_are_read_side_by_side_do_not_both_leave() -> None:
    model = Concat()
    randomise(model)
    with torch.no_grad():
        model.b.weight.copy_(1.0005 * model.a.weight)
        model.b.bias.copy_(model.a.bias)
    report = analyze(model, data=torch.randn(3000, 4))
    assert sorted(map(sorted, families(report))) == [["a", "b"], ["c"]]
    node_order = _score(report)[("a", "b")]
    first = [int(node) for node in node_order.node[:6]]
    assert sorted(first) == list(range(6))
    assert len(set(node_order.owner[:6].tolist())) >= 1
    assert node_order.cost[5] < 0.1 * node_order.cost[6]
