import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import images, randomise
from tsdistill.pruning.realignment.gauss_newton import (
    kfac_preconditioner,
    refit,
    samples_for,
    unseen_samples,
)


class Branch(nn.Module):
    """Two convolutions with batch norm, added to what came in."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.second = nn.Conv2d(inner, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first_norm(self.first(x)))))


class Attention(nn.Module):
    """A pre-norm attention layer over the pixels as tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(3), nn.Linear(3, 36), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(tokens)).reshape(len(x), -1, 3, 2, 6).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(len(x), -1, 12)
        return tokens + self.proj(seen)


def _error(block: nn.Module, x: Tensor, wanted: Tensor) -> float:
    with torch.no_grad():
        return float((block(x) - wanted).square().sum())


@pytest.mark.parametrize("make", [lambda: Branch(8), Attention])
def test_a_block_that_was_moved_comes_back(make) -> None:
    block = randomise(make()).requires_grad_(False)
    x, other = images(160, seed=1), images(80, seed=2)
    wanted, goal = block(x), block(other)
    torch.manual_seed(0)
    for parameter in block.parameters():
        parameter.add_(0.1 * parameter.std(correction=0) * torch.randn_like(parameter))
    before = _error(block, other, goal)
    for turn in range(3):
        assert refit(block, x, wanted, torch.Generator().manual_seed(turn))
    assert _error(block, other, goal) < 0.02 * before


def test_nodes_that_stay_take_over_what_nodes_that_left_did() -> None:
    whole = randomise(Branch(12)).requires_grad_(False)
    small = randomise(Branch(6)).requires_grad_(False)
    x, other = images(200, seed=3), images(80, seed=4)
    with torch.no_grad():
        small.first.weight.copy_(whole.first.weight[:6])
        small.second.weight.copy_(whole.second.weight[:, :6])
    before = _error(small, other, whole(other))
    assert refit(small, x, whole(x), torch.Generator().manual_seed(0))
    assert _error(small, other, whole(other)) < 0.6 * before


def test_what_would_harm_unseen_samples_is_not_done() -> None:
    block = randomise(Branch(8)).requires_grad_(False)
    x = images(16, seed=1)
    state = copy.deepcopy(block.state_dict())
    noise = torch.where(unseen_samples(16)[:, None, None, None], 0.0, 1.0)
    wanted = block(x) + noise * torch.rand_like(x)
    assert not refit(block, x, wanted, torch.Generator().manual_seed(0))
    assert all(torch.equal(value, state[name]) for name, value in block.state_dict().items())
    assert not refit(block, x[:2], wanted[:2], torch.Generator().manual_seed(0))


def test_a_block_that_no_parameter_can_move_stays() -> None:
    block = randomise(Branch(8)).requires_grad_(False)
    block.second.bias.fill_(-100.0)  # behind the rectifier nothing is left, of the gradient neither
    before = copy.deepcopy(block.state_dict())
    x = images(160, seed=1)
    assert not refit(block, x, torch.ones_like(x), torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


def test_the_number_of_samples_follows_from_parameters_positions_and_samples() -> None:
    block, light = nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 1)
    large, small = torch.zeros(2, 64, 28, 28), torch.zeros(2, 64, 7, 7)
    assert samples_for(block, small, 1, 64) > samples_for(light, small, 1, 64) == 96
    assert samples_for(block, small, 1, 64) > samples_for(block, large, 1, 64) == 48
    assert samples_for(light, torch.zeros(2, 64, 56, 56), 1, 64) == 16
    assert samples_for(block, small.flatten(2).movedim(1, -1), -1, 64) == samples_for(block, small, 1, 64)
    few, many = (samples_for(block, large, 1, samples) for samples in (0, 10**6))
    assert 4 * (few - 1) < many <= 4 * few


@pytest.mark.parametrize("samples", [1, 2, 3, 16, 24, 64, 200])
def test_most_samples_are_fitted_and_some_judge(samples: int) -> None:
    judges = int(unseen_samples(samples).sum())
    assert judges <= samples / 3
    assert judges >= min(samples // 3, samples // 8)
    assert judges > 0 or samples < 3


def test_a_block_with_too_many_parameters_for_the_samples_stays() -> None:
    block = randomise(Branch(8)).requires_grad_(False)
    x = images(160, seed=1)
    mask = torch.zeros(1, 1, *x.shape[2:])
    mask[..., 0, 0] = 1
    assert refit(block, x, block(x) + 0.1 * x, torch.Generator().manual_seed(0))
    assert not refit(block, x, block(x) + 0.1 * x, torch.Generator().manual_seed(0), mask=mask)


def test_of_a_linear_layer_the_curvature_is_the_second_moment_of_its_input() -> None:
    layer = nn.Sequential(nn.Linear(4, 3, bias=False))
    x = torch.randn(4000, 4) @ torch.randn(4, 4)
    at = {"0.weight": layer[0].weight.detach()}

    def run(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters, (x,))

    scale = kfac_preconditioner(layer, run, at, x, torch.Generator().manual_seed(0))["0.weight"]
    gradient = torch.randn(3, 4)
    expected = gradient @ torch.linalg.inv(x.T @ x)
    found = scale(gradient)
    cosine = F.cosine_similarity(found.flatten(), expected.flatten(), dim=0)
    assert float(cosine) > 0.98
