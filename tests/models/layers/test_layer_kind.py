"""A layer of a class that is not PyTorch's is one registration: every stage takes it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tsdistill import analyze, prune_result
from tsdistill.models import sync_widths
from tsdistill.models.layers import layer_kind
from tsdistill.models.layers.layer_kind import from_blocks, is_plain, kind_of, weight_blocks
from tsdistill.plugin_api import LayerKind, register_layer_kind
from tsdistill.pruning.realignment.target_layers import find_targets
from tsdistill.statistics.linear_readers import capacities
from tsdistill.tracing import trace


class InputsFirst(nn.Linear):
    """A linear layer whose weight is ``[in, out]``."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features)
        self.weight = nn.Parameter(layer.weight.detach().t().contiguous())
        self.bias = nn.Parameter(layer.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


class OwnConv(nn.Module):
    """A convolution that has nothing of PyTorch's but the names of its attributes."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = copy.deepcopy(layer.weight), copy.deepcopy(layer.bias)
        self.kernel_size, self.stride, self.padding = layer.kernel_size, layer.stride, layer.padding
        self.dilation, self.padding_mode = layer.dilation, layer.padding_mode
        self.in_channels, self.out_channels = layer.in_channels, layer.out_channels

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight, self.bias, self.stride, self.padding)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_KINDS", "_PLAIN", "_REGISTERED"):
        monkeypatch.setattr(layer_kind, name, getattr(layer_kind, name).copy())
    register_layer_kind(InputsFirst, LayerKind(channel_dim=-1, output_dim=1), plain=True)
    register_layer_kind(OwnConv, LayerKind(channel_dim=1, output_dim=0, sides=2), plain=True)


def _model(own: bool) -> nn.Sequential:
    torch.manual_seed(0)
    convs, layers = [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3, padding=1)], [nn.Linear(6, 10), nn.Linear(10, 4)]
    first, second, third, last = (
        [*map(OwnConv, convs), *map(InputsFirst, layers)] if own else [*convs, *layers]
    )
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), pool, third, nn.ReLU(), last).eval()


def _data() -> list[tuple[Tensor, None]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(32, 3, 9, 9, generator=generator), None) for _ in range(2)]


def test_registered_layers_are_pruned_compensated_and_realigned_like_those_of_pytorch() -> None:
    (x, _), *_ = data = _data()
    plain, own = (prune_result(_model(own), data=data, budget={"nodes": 0.6}) for own in (False, True))
    assert own.plan.to_dict() == plain.plan.to_dict()
    assert own.realigned == plain.realigned > 0
    with torch.no_grad():
        torch.testing.assert_close(own.model(x), plain.model(x), atol=1e-4, rtol=1e-3)
    for name, module in plain.model.named_modules():
        if hasattr(module, "weight"):
            twin = own.model.get_submodule(name)
            for attribute in ("in_features", "out_features", "in_channels", "out_channels"):
                assert getattr(twin, attribute, None) == getattr(module, attribute, None)


def test_registered_layers_are_traced_observed_and_realigned_as_themselves() -> None:
    (x, _), *_ = data = _data()
    model = _model(own=True)
    graph = trace(model, x[:1])
    assert {reader.module for group in graph.groups for reader in group.readers} == {"2", "5", "7"}
    readers = {reader.module or "": reader for group in graph.groups for reader in group.readers}
    able = capacities(model, readers, readers, x[:1])
    assert {name: can.constants for name, can in able.items()} == {"2": False, "5": True, "7": True}
    assert all(can.channels for can in able.values())
    targets, _ = find_targets(model, copy.deepcopy(model), {}, {}, x[:2])
    assert [target.name for target in targets] == ["0", "2", "5", "7"]
    plain, own = (
        analyze(_model(own), data=data, analysis={"metric": ["correlation", "weights"]})
        for own in (False, True)
    )
    for group, other in zip(own.groups, plain.groups, strict=True):
        assert group.strength == pytest.approx(other.strength, rel=1e-4)
        assert group.matches.keys() == other.matches.keys()


def test_a_subclass_is_of_the_kind_of_the_nearest_class_and_plain_with_its_forward_only() -> None:
    class Scaled(InputsFirst):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    layer = Scaled(nn.Linear(5, 3))
    assert kind_of(layer) == LayerKind(-1, 1)
    assert is_plain(InputsFirst(nn.Linear(5, 3)))
    assert not is_plain(layer)
    layer.weight = nn.Parameter(torch.zeros(4, 2))
    sync_widths(layer)
    assert (layer.in_features, layer.out_features) == (4, 2)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 4), (1, 4, 6, 1)),
        (InputsFirst(nn.Linear(6, 4)), (1, 4, 6, 1)),
        (nn.Conv2d(6, 4, 3, groups=2), (2, 2, 3, 9)),
        (nn.ConvTranspose1d(6, 4, 5, groups=2), (2, 2, 3, 5)),
    ],
)
def test_blocks_of_a_weight_are_outputs_by_inputs(layer: nn.Module, shape: tuple[int, ...]) -> None:
    weight = layer.get_parameter("weight")
    blocks = weight_blocks(layer, weight)
    assert blocks.shape == shape
    assert torch.equal(from_blocks(layer, blocks, weight.shape), weight)
