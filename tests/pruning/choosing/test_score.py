from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.alignment.small import images, mlp, randomise, residual
from tsdistill.alignment import AlignmentReport, analyze
from tsdistill.alignment.linear import shrinkage, standardise
from tsdistill.pruning.choosing.score import Elimination, families, score


def _score(
    report: AlignmentReport, keep_strong: bool = True, floor: int = 1
) -> dict[tuple[str, ...], Elimination]:
    names = [group.name for group in report.groups]
    found = score(report, dict.fromkeys(names, floor), dict.fromkeys(names, 1.0), keep_strong=keep_strong)
    return {elimination.groups: elimination for elimination in found}


def _direct(report: AlignmentReport, site: str, kept: np.ndarray, weight: np.ndarray) -> float:
    """Σ ω times what ridge least squares from the kept features leaves, in standardised features."""
    covariance = report.statistics.observed.covariances[site]
    c = standardise(covariance.matrix, covariance.std)
    ridge = shrinkage(c, covariance.rows)
    inner = np.linalg.inv(c[np.ix_(kept, kept)] + ridge * np.eye(len(kept)))
    left = np.diag(c) - np.einsum("jk,kl,jl->j", c[:, kept], inner, c[:, kept])
    return float(weight @ left)


@pytest.mark.parametrize("keep_strong", [True, False])
def test_costs_equal_the_residuals_of_direct_regressions(keep_strong: bool) -> None:
    report = analyze(mlp(5, 12, 4), data=torch.randn(600, 5))
    elimination = _score(report, keep_strong)[("0",)]
    statistics = report.statistics
    weight = statistics.sensitivity["2"] * statistics.observed.covariances["2"].var
    weight = weight if keep_strong else np.ones(12)
    kept = np.arange(12)
    before = _direct(report, "2", kept, weight)
    for node, cost in zip(elimination.node, elimination.cost, strict=True):
        kept = kept[kept != node]
        after = _direct(report, "2", kept, weight)
        assert cost == pytest.approx(after - before, rel=1e-5, abs=1e-9)
        before = after
    assert len(kept) == 1


def test_costs_add_up_over_readers_and_positions() -> None:
    report = analyze(residual(), data=images(300))
    elimination = _score(report)[("stem",)]
    statistics = report.statistics
    gone = elimination.node[0]
    total = 0.0
    for reading in statistics.sites.readings["stem"]:
        covariance = statistics.observed.covariances[reading.site]
        weight = statistics.sensitivity[reading.site] * covariance.var
        everything = np.arange(len(weight))
        kept = np.setdiff1d(everything, reading.features[gone])
        total += _direct(report, reading.site, kept, weight) - _direct(
            report, reading.site, everything, weight
        )
    assert elimination.cost[0] == pytest.approx(total, rel=1e-5)


def test_free_nodes_come_first_and_cost_nothing() -> None:
    model = mlp(5, 12, 4)
    with torch.no_grad():
        model[2].weight[:, 3] = 0
        model[0].weight[8], model[0].bias[8] = 5 * model[0].weight[2], 5 * model[0].bias[2]
        model[0].bias[10] = -1e3
    elimination = _score(analyze(model, data=torch.randn(600, 5)))[("0",)]
    assert sorted(elimination.node[:3].tolist()) == [3, 8, 10]
    assert elimination.cost[:3].tolist() == [0, 0, 0]
    assert elimination.free.tolist() == [True] * 3 + [False] * 8
    assert elimination.cost[3:].min() > 0


def test_a_teacher_s_nodes_are_the_targets() -> None:
    teacher, student, x = mlp(6, 3, 2, seed=5), mlp(6, 10, 2, seed=6), torch.randn(2000, 6)
    with torch.no_grad():
        student[0].weight[[1, 4, 7]] = teacher[0].weight * 2
        student[0].bias[[1, 4, 7]] = teacher[0].bias * 2
    for keep_strong in (True, False):
        elimination = _score(analyze(student, teacher, x), keep_strong, floor=3)[("0",)]
        assert set(elimination.node.tolist()) == set(range(10)) - {1, 4, 7}


def test_keep_strong_keeps_what_serves_the_strong_teacher_node() -> None:
    teacher, student, x = mlp(6, 2, 2, seed=5), mlp(6, 2, 2, seed=6), torch.randn(2000, 6)
    with torch.no_grad():
        student[0].load_state_dict(teacher[0].state_dict())
    for strong in (0, 1):
        with torch.no_grad():
            teacher[2].weight.fill_(0.01)
            teacher[2].weight[:, strong] = 10
        elimination = _score(analyze(student, teacher, x))[("0",)]
        assert elimination.node.tolist() == [1 - strong]


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
    elimination = _score(report)[("a", "b")]
    first = [int(node) for node in elimination.node[:6]]
    assert sorted(first) == list(range(6))
    assert len(set(elimination.owner[:6].tolist())) >= 1
    assert elimination.cost[5] < 0.1 * elimination.cost[6]
