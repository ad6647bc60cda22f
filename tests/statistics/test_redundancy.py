from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.networks import images, mlp, randomise, residual
from tsdistill.statistics.covariance import RunningCovariance
from tsdistill.statistics.linear_readers import pads_with_zeros
from tsdistill.statistics.observation import observe
from tsdistill.statistics.redundancy import (
    Relations,
    compensations,
    lossless_nodes,
    relations,
    spanned_by_norms,
)
from tsdistill.statistics.sites import find_sites
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
    taking = compensations(model, sites, seen, x[:1])
    free = lossless_nodes(model, graph.by_name[group], sites, found, taking, spanned_by_norms(graph))
    return np.flatnonzero(free).tolist()


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


def test_constants_other_than_zero_are_multiples_of_each_other() -> None:
    x = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
    x[:, 1], x[:, 2], x[:, 4] = 4, 0, -2
    found = _relations(x)
    assert found.leader.tolist() == [0, 1, 2, 3, 1]
    assert found.factor[4] == pytest.approx(-0.5)


def _convolutions(reader: nn.Module, *behind: nn.Module) -> nn.Sequential:
    """A layer of 8 nodes of which 2 and 5 are constant and 7 is always 0, and what reads it."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), reader, *behind)
    randomise(model)
    with torch.no_grad():
        for node, value in ((2, 1.5), (5, 0.5), (7, -1.0)):
            model[0].weight[node] = 0
            model[0].bias[node] = value
    return model


@pytest.mark.parametrize(
    ("reader", "behind", "free"),
    [
        (nn.Conv2d(8, 4, 3), [], [2, 5, 7]),
        (nn.Conv2d(8, 4, 3, bias=False), [nn.BatchNorm2d(4)], [2, 5, 7]),
        (nn.Conv2d(8, 4, 3, bias=False), [], [5, 7]),
        (nn.Conv2d(8, 4, 3, bias=False), [nn.BatchNorm2d(4, track_running_stats=False)], [5, 7]),
        (nn.Conv2d(8, 4, 3, padding=1), [], [5, 7]),
        (nn.Conv2d(8, 4, 3, padding=1, padding_mode="reflect"), [], [2, 5, 7]),
    ],
)
def test_a_constant_is_free_where_the_reader_has_a_place_for_it(
    reader: nn.Module, behind: list[nn.Module], free: list[int]
) -> None:
    assert _free(_convolutions(reader, *behind), images(40), "0") == free


def test_layers_that_change_their_weight_first_make_no_node_free() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self._conv_forward(x, self.weight - self.weight.mean(1, keepdim=True), self.bias)

    assert _free(_convolutions(Standardised(8, 4, 3)), images(40), "0") == []


def test_multiples_count_within_one_group_of_a_grouped_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 6, 3, groups=2), nn.Conv2d(6, 2, 1))
    randomise(model)
    with torch.no_grad():
        for parameter in model[0].parameters():
            parameter[4:] = 2 * parameter[:4]
    group = trace(model, images(1)).groups[0].name
    assert _free(model, images(40), group) == []
    with torch.no_grad():
        for parameter in model[0].parameters():
            parameter[[2, 6]] = 3 * parameter[[1, 5]]
    assert _free(model, images(40), group) == [2]


def test_no_node_is_free_where_a_norm_runs_over_the_nodes() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Linear(5, 8), nn.LayerNorm(8)
            self.second, self.third = nn.Linear(8, 9), nn.Linear(9, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.third(torch.relu(self.second(self.norm(self.first(x)))))

    model = Block()
    randomise(model)
    with torch.no_grad():
        model.second.weight[:, 2] = 0
        model.norm.weight[3] = model.norm.bias[3] = 0
        model.third.weight[:, 4] = 0
    x = torch.randn(200, 5)
    assert spanned_by_norms(trace(model, x[:1])) == {"first"}
    assert _free(model, x, "first") == []
    assert _free(model, x, "second") == [4]


def test_no_node_is_free_where_a_reader_cannot_be_seen() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 3)
            self.weight = nn.Parameter(torch.randn(3, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.relu(self.first(x))
            return self.second(h) + nn.functional.linear(h, self.weight)

    model = Own()
    randomise(model)
    with torch.no_grad():
        model.second.weight[:, 2] = 0
    assert _free(model, torch.randn(200, 5), "first") == []


def test_which_layers_pad_with_zeros() -> None:
    assert not pads_with_zeros(nn.Linear(2, 2))
    assert not pads_with_zeros(nn.Conv2d(2, 2, 3))
    assert pads_with_zeros(nn.Conv2d(2, 2, 3, padding=1))
    assert pads_with_zeros(nn.Conv2d(2, 2, 3, padding="same"))
    assert not pads_with_zeros(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"))
    assert pads_with_zeros(nn.ConvTranspose2d(2, 2, 3))
    assert not pads_with_zeros(nn.Conv2d(2, 2, 1, padding="same"))
