from __future__ import annotations

import pytest
import torch
from timm.layers import ScaledStdConv2d
from torch import Tensor, nn
from torch.nn import functional

from tests.networks import images, mlp, residual
from tsdistill.alignment.metrics.lowest_layers import lowest_layers
from tsdistill.errors import TsdistillError


class Stems(nn.Module):
    """Two layers on the raw input, one of them after fixed operations; the other's norm comes too late."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
        self.left = nn.Conv2d(3, 4, 3, padding=1)
        self.left_norm = nn.BatchNorm2d(4)
        self.right = nn.Linear(12, 4)
        self.right_norm = nn.BatchNorm2d(4)
        self.mix = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        left = self.left_norm(functional.relu(self.left(x)))
        patches = functional.pixel_unshuffle((x - self.mean) / 0.2, 2)
        right = self.right_norm(self.right(patches.movedim(1, -1)).movedim(-1, 1))
        return self.mix(functional.avg_pool2d(left, 2) + right)


class TokenMixing(nn.Module):
    """Deeper layers read positions, which no layer writes: still not the raw input."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 2, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.up = nn.Linear(16, 10)
        self.down = nn.Linear(10, 16)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.norm(self.embed(x)).flatten(2)
        return self.down(functional.relu(self.up(x))).mean(2)


class Rectified(nn.Module):
    """The norm receives the layer's output tensor, changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.out = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(functional.relu_(self.layer(x))))


class PositionNorm(nn.Module):
    """A batch norm whose channels are positions, not the layer's outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.out = nn.Linear(4, 7), nn.BatchNorm1d(7), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(self.layer(x)))


@pytest.mark.parametrize(
    ("model", "x", "found"),
    [
        (mlp(6, 5, 4, 3), torch.zeros(1, 6), {"0.weight": None}),
        (residual(), images(1), {"stem.weight": "norm"}),
        (Stems(), images(1), {"left.weight": None, "right.weight": None}),
        (TokenMixing(), images(1), {"embed.weight": "norm"}),
        (Rectified(), torch.zeros(1, 4), {"layer.weight": None}),
        (PositionNorm(), torch.zeros(1, 7, 4), {"layer.weight": None}),
    ],
    ids=["mlp", "residual", "stems", "tokens", "in place", "positions"],
)
def test_layers_that_read_the_raw_input_and_their_norms(
    model: nn.Module, x: Tensor, found: dict[str, str | None]
) -> None:
    lowest = lowest_layers(model, x)
    assert {name: layer.norm for name, layer in lowest.items()} == found
    parameters = dict(model.named_parameters())
    assert all(torch.equal(layer.weight, parameters[name]) for name, layer in lowest.items())


def test_a_standardised_weight_is_taken_as_it_is_applied() -> None:
    layer = ScaledStdConv2d(3, 4, 3, padding=1)
    model = nn.Sequential(layer, nn.ReLU(), nn.Conv2d(4, 2, 1))
    weight = lowest_layers(model, images(1))["0.weight"].weight
    assert not torch.allclose(weight, layer.weight)
    with torch.no_grad():
        torch.testing.assert_close(
            functional.conv2d(images(1), weight, layer.bias, padding=1), layer(images(1))
        )


def test_a_layer_that_also_reads_deeper_is_not_lowest() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.layer(self.layer(x)))

    assert lowest_layers(Twice(), torch.zeros(1, 4)) == {}


def test_the_model_is_left_as_it_was() -> None:
    model = residual().train()
    model.stem.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lowest_layers(model, images(1))
    assert model.training
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_forward_that_fails_is_one_line() -> None:
    with pytest.raises(TsdistillError, match="forward"):
        lowest_layers(mlp(6, 5, 3), torch.zeros(1, 7))
