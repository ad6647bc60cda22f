from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.alignment.small import images, mlp, residual
from tsdistill.alignment.exact import Relations, free_nodes, pads_with_zeros, relations
from tsdistill.alignment.observing.covariance import RunningCovariance
from tsdistill.alignment.observing.observe import observe
from tsdistill.alignment.observing.sites import find_sites
from tsdistill.tracing import trace


def _relations(x: torch.Tensor) -> Relations:
    running = RunningCovariance()
    for part in x.split(100):
        running.update(part)
    return relations(running.finish())


def test_multiples_constants_and_zeros_are_found_and_look_alikes_are_not() -> None:
    x = torch.relu(torch.randn(1000, 8, generator=torch.Generator().manual_seed(0)))
    x[:, 1] = 3 * x[:, 0]
    x[:, 4] = -0.5 * x[:, 0]
    x[:, 2] = 7.25
    x[:, 3] = 0
    x[:, 6] = x[:, 5] * (1 + 1e-3 * torch.randn(1000))
    x[:, 7] = x[:, 5] + 1
    found = _relations(x)
    assert found.leader.tolist() == [0, 0, 2, 3, 0, 5, 6, 7]
    assert found.factor[1] == pytest.approx(3, rel=1e-6)
    assert found.factor[4] == pytest.approx(-0.5, rel=1e-6)
    assert found.constant.tolist() == [False, False, True, True, False, False, False, False]
    assert found.silent.tolist() == [False, False, False, True, False, False, False, False]


def _free(model: nn.Module, x: torch.Tensor, group: str) -> list[int]:
    graph = trace(model, x[:1])
    sites = find_sites(model, graph)
    seen = observe(model, sites, [(x, None)]).covariances
    found = {key: relations(covariance) for key, covariance in seen.items()}
    return np.flatnonzero(free_nodes(model, graph.by_name[group], sites, found)).tolist()


def test_free_nodes_of_a_linear_network() -> None:
    model, x = mlp(5, 9, 3), torch.randn(200, 5)
    with torch.no_grad():
        model[2].weight[:, 1] = 0
        model[0].bias[4] = -1e3
        model[0].weight[6], model[0].bias[6] = 2 * model[0].weight[5], 2 * model[0].bias[5]
        model[0].weight[8], model[0].bias[8] = 3 * model[0].weight[5], 3 * model[0].bias[5]
        model[0].weight[7], model[0].bias[7] = 0, 2
    assert _free(model, x, "0") == [1, 4, 6, 7, 8]


def test_a_node_must_be_free_for_every_reader() -> None:
    model, x = residual(), images(64)
    with torch.no_grad():
        model.first.weight[:, 3] = 0
        model.first.weight[:, 5] = 0
        model.head.weight[:, 5 * 4 : 6 * 4] = 0
    assert _free(model, x, "stem") == [5]


def test_which_layers_pad_with_zeros() -> None:
    class Same(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(nn.functional.pad(x, (1, 1, 1, 1)))

    assert not pads_with_zeros(nn.Linear(2, 2))
    assert not pads_with_zeros(nn.Conv2d(2, 2, 3))
    assert pads_with_zeros(nn.Conv2d(2, 2, 3, padding=1))
    assert pads_with_zeros(nn.Conv2d(2, 2, 3, padding="same"))
    assert not pads_with_zeros(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"))
    assert pads_with_zeros(nn.ConvTranspose2d(2, 2, 3))
    assert pads_with_zeros(Same(2, 2, 3))
    assert not pads_with_zeros(nn.Conv2d(2, 2, 1, padding="same"))
