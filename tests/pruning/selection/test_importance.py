from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.networks import images, residual
from tsdistill.alignment import analyze
from tsdistill.alignment.report import AlignmentReport
from tsdistill.errors import TsdistillError
from tsdistill.plugins import get
from tsdistill.pruning import plan, prune_result
from tsdistill.pruning.selection.importance import fan_in
from tsdistill.tracing.graph import Group


def network() -> nn.Module:
    """Two convolutions with batch norms and a classifier, weights drawn."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 2)
    return model.eval()


@pytest.fixture(scope="module")
def seen() -> SimpleNamespace:
    torch.manual_seed(1)
    model, x, y = network(), torch.randn(48, 3, 8, 8), torch.randint(4, (48,))
    batches = [(x[:24], y[:24]), (x[24:], y[24:])]
    return SimpleNamespace(model=model, batches=batches, report=analyze(model, data=batches))


def costs(seen: SimpleNamespace, name: str, group: str) -> np.ndarray:
    report: AlignmentReport = seen.report
    return np.asarray(torch.as_tensor(get("importance", name)(report, report.graph.by_name[group])))


def close(found: np.ndarray, wanted: Tensor, *, scaled: bool = True) -> None:
    expected = wanted.detach().double().numpy()
    if scaled:
        found, expected = found / found.mean(), expected / expected.mean()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_magnitude_is_the_norm_of_the_fan_in(seen: SimpleNamespace) -> None:
    close(costs(seen, "magnitude", "3"), seen.model[3].weight.abs().sum((1, 2, 3)))
    close(costs(seen, "magnitude-l2", "3"), seen.model[3].weight.square().sum((1, 2, 3)).sqrt())


def test_batchnorm_scale_is_that_of_the_norm_behind(seen: SimpleNamespace) -> None:
    close(costs(seen, "batchnorm-scale", "0"), seen.model[1].weight.abs(), scaled=False)


def test_fpgm_is_the_distance_to_all_others(seen: SimpleNamespace) -> None:
    rows = seen.model[0].weight.flatten(1)
    close(costs(seen, "fpgm", "0"), (rows[:, None] - rows).square().sum(2).sqrt().sum(1))


def test_wanda_is_the_weights_that_read_a_node_times_its_norm(seen: SimpleNamespace) -> None:
    x = torch.cat([x for x, _ in seen.batches])
    pooled = seen.model[:8](x)
    close(costs(seen, "wanda", "3"), seen.model[8].weight.abs().sum(0) * pooled.square().mean(0).sqrt())


def test_taylor_is_the_squared_product_with_the_gradient(seen: SimpleNamespace) -> None:
    total = torch.zeros(6, dtype=torch.float64)
    for x, y in seen.batches:
        loss = nn.functional.cross_entropy(seen.model(x), y)
        parts = [seen.model[3].weight, seen.model[3].bias, seen.model[4].weight, seen.model[4].bias]
        slopes = torch.autograd.grad(loss, parts)
        products = [s * p for s, p in zip(slopes, parts, strict=True)]
        total += sum(each.flatten(1).sum(1) if each.ndim > 1 else each for each in products) ** 2
    close(costs(seen, "taylor", "3"), total)
    assert all(p.grad is None and p.requires_grad for p in seen.model.parameters())


def test_taylor_needs_no_labels() -> None:
    model, x = network(), torch.randn(40, 3, 8, 8)
    first, again = (
        plan(analyze(model, data=x), budget={"nodes": 0.6}, selection={"importance": "taylor"})
        for _ in range(2)
    )
    assert first == again


@pytest.mark.parametrize("name", ["magnitude", "batchnorm-scale", "taylor", "fpgm", "wanda"])
def test_the_budget_is_met_and_the_cheapest_leave(seen: SimpleNamespace, name: str) -> None:
    made = plan(seen.report, budget={"nodes": 0.6}, selection={"importance": name})
    assert made.after["nodes"] <= 0.6 * made.before["nodes"]
    for group, nodes in made.removed.items():
        order = np.argsort(costs(seen, name, group), kind="stable")
        assert sorted(order[: len(nodes)].tolist()) == nodes


def last_first(report: AlignmentReport, group: Group) -> Tensor:
    return -torch.arange(group.size)


class Named:
    name = "mine"

    def __call__(self, report: AlignmentReport, group: Group) -> Tensor:
        return last_first(report, group)


@pytest.mark.parametrize("importance", [last_first, Named()])
def test_an_object_stands_in_place_of_a_name(seen: SimpleNamespace, importance: Any) -> None:
    result = prune_result(
        seen.model,
        data=seen.batches,
        budget={"nodes": 0.6},
        selection={"importance": importance},
        realignment={"realign": False},
    )
    for group, nodes in result.plan.removed.items():
        size = result.plan.groups[group].size
        assert nodes == list(range(size - len(nodes), size))


@pytest.mark.parametrize(
    "importance",
    [
        lambda report, group: torch.zeros(group.size + 1),
        lambda report, group: torch.full((group.size,), torch.nan),
        lambda report, group: {}["x"],
        "magnitood",
    ],
)
def test_a_criterion_that_is_none_is_refused(seen: SimpleNamespace, importance: Any) -> None:
    with pytest.raises(TsdistillError):
        plan(seen.report, budget={"nodes": 0.6}, selection={"importance": importance})


def test_a_model_without_batch_norms_has_no_batchnorm_scale() -> None:
    report = analyze(nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3)), data=torch.randn(40, 9))
    with pytest.raises(TsdistillError, match="batch norm"):
        plan(report, budget={"nodes": 0.6}, selection={"importance": "batchnorm-scale"})


def test_the_fan_in_of_a_residual_group_is_that_of_all_its_writers() -> None:
    report = analyze(residual(width=16, inner=24), data=images(100))
    group = report.graph.by_name["stem"]
    assert fan_in(report, group).shape[0] == group.size
    model = report.statistics.model
    assert model is not None
    weights = dict(model.named_parameters())
    wanted = sum(weights[name].numel() for name in group.writers) // group.size
    assert fan_in(report, group).shape[1] == wanted
