from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from tests.networks import images, mlp, residual
from tsdistill.errors import TsdistillError
from tsdistill.statistics.observation import observe
from tsdistill.statistics.sensitivity import (
    column_norms,
    fan_out_norm,
    standardised_fan_out_norm,
    strength,
)
from tsdistill.statistics.sensitivity_passes import SensitivityPasses
from tsdistill.statistics.sites import find_sites
from tsdistill.tracing import Reader, trace


def test_sensitivity_is_the_squared_column_norm_of_the_jacobian() -> None:
    model, x = mlp(5, 8, 6, 3), torch.randn(16, 5)
    sites = find_sites(model, trace(model, x[:1]))
    found = SensitivityPasses(model, sites, [(x, None)] * 400, samples=16 * 400).finish()[0].mean
    hidden = torch.relu(model[0](x)).detach()
    columns = vmap(jacrev(lambda h: model[4](torch.relu(model[2](h)))))(hidden)
    np.testing.assert_allclose(found["2"], columns.square().sum(1).mean(0).detach(), rtol=0.1)
    np.testing.assert_allclose(found["4"], model[4].weight.detach().square().sum(0), rtol=0.1)


def test_sensitivity_runs_through_the_reader_only_not_through_the_skip() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.write, self.read, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.write(x)
            return self.head(h + self.read(h))

    model, x = Skip(), torch.randn(64, 3)
    sites = find_sites(model, trace(model, x[:1]))
    found = SensitivityPasses(model, sites, [(x, None)] * 60, samples=64 * 60).finish()[0].mean
    through = (model.head.weight @ model.read.weight).detach().square().sum(0)
    np.testing.assert_allclose(found["read"], through, rtol=0.12)


def test_sensitivity_of_a_channel_sums_over_positions() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1, bias=False))
    x = torch.randn(32, 3, 3, 3)
    sites = find_sites(model, trace(model, x[:1], check=False))
    found = SensitivityPasses(model, sites, [(x, None)] * 20, samples=640).finish()[0].mean
    expected = 9 * model[1].weight.detach()[:, :, 0, 0].square().sum(0)
    np.testing.assert_allclose(found["1"], expected, rtol=0.1)


def test_gradients_of_parameters_and_flags_are_left_alone() -> None:
    model, x = residual(), images(8)
    model.head.weight.grad = torch.full_like(model.head.weight, 7.0)
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    SensitivityPasses(model, find_sites(model, trace(model, x[:1])), [(x, None)]).finish()
    assert bool((model.head.weight.grad == 7).all())
    assert model.stem.weight.grad is None
    assert flags == {name: p.requires_grad for name, p in model.named_parameters()}


def _strength(model: nn.Module, x: Tensor) -> dict[str, np.ndarray]:
    graph = trace(model, x[:1])
    sites = find_sites(model, graph)
    seen = observe(model, sites, [(x, None)], positions=None)
    beta = SensitivityPasses(model, sites, [(x, None)], samples=len(x), seed=3).finish()[0].mean
    found = {g.name: strength(sites.readings[g.name], seen.covariances, beta) for g in graph.groups}
    return {name: values for name, values in found.items() if values is not None}


@pytest.mark.parametrize("factor", [0.05, 40.0])
def test_rescaling_a_relu_node_leaves_strength_alone(factor: float) -> None:
    model, x = mlp(5, 8, 6, 3), torch.randn(200, 5)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight[2] *= factor
        other[0].bias[2] *= factor
        other[2].weight[:, 2] /= factor
    before, after = _strength(model, x), _strength(other, x)
    assert set(before) == set(after) == {"0", "2"}
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-4)


def test_strength_adds_squares_over_readers() -> None:
    model, x = residual(), images(32)
    graph = trace(model, x[:1])
    sites = find_sites(model, graph)
    seen = observe(model, sites, [(x, None)])
    beta = SensitivityPasses(model, sites, [(x, None)]).finish()[0].mean
    both = sites.readings["stem"]
    parts = [strength([reading], seen.covariances, beta) for reading in both]
    np.testing.assert_allclose(
        strength(both, seen.covariances, beta) ** 2, parts[0] ** 2 + parts[1] ** 2, rtol=1e-9
    )
    assert strength([], seen.covariances, beta) is None


def test_fan_out_norms_take_in_kernels_readers_and_positions() -> None:
    model, x = residual(), images(64)
    graph = trace(model, x[:1])
    norm = fan_out_norm(model, graph.by_name["stem"])
    head = model.head.weight.detach().reshape(5, 8, 4)
    expected = model.first.weight.detach().square().sum((0, 2, 3)) + head.square().sum((0, 2))
    np.testing.assert_allclose(norm, expected.sqrt(), rtol=1e-5)
    sites = find_sites(model, graph)
    seen = observe(model, sites, [(x, None)], positions=None).covariances
    found = standardised_fan_out_norm(model, sites.readings["first"], seen, 12)
    inner = model.second.weight.detach().square().sum((0, 2, 3)).sqrt().numpy()
    np.testing.assert_allclose(found, inner * seen["second"].std, rtol=1e-5)


def test_column_norms_of_a_grouped_convolution_stay_within_its_groups() -> None:
    model = nn.Sequential(nn.Conv2d(6, 4, 3, groups=2))
    reader = Reader("0", "0.weight", 1, 1, np.arange(6)[:, None])
    weight = model[0].weight.detach()
    for channel in range(6):
        block = weight[2 * (channel // 3) : 2 * (channel // 3) + 2, channel % 3]
        assert column_norms(model, reader)[channel, 0] == pytest.approx(float(block.square().sum()), rel=1e-5)


def test_outputs_that_cannot_be_differentiated_are_one_line() -> None:
    class Detached(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).detach()

    class Label(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).argmax(1)

    x = torch.randn(4, 3)
    sites = find_sites(plain := mlp(3, 4, 2), trace(plain, x[:1]))
    with pytest.raises(TsdistillError, match="cannot be differentiated"):
        SensitivityPasses(Detached(*mlp(3, 4, 2)), sites, [(x, None)]).finish()
    with pytest.raises(TsdistillError, match="output"):
        SensitivityPasses(Label(*mlp(3, 4, 2)), sites, [(x, None)]).finish()
