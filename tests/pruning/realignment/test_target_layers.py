import copy

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from tests.networks import randomise
from tsdistill.pruning.pruning_state import IndexMap
from tsdistill.pruning.realignment.target_layers import Block, find_targets
from tsdistill.runtime.call_layers import call_layers
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.tracing import cut, trace


def blocks(model: nn.Module, x: Tensor, part: float = 1.0) -> tuple[list[Block], nn.Module]:
    """The blocks of a model and of what a cut to ``part`` of every width leaves of it."""
    graph = trace(model.eval(), x)
    index_map = IndexMap(model, graph)
    removed = {group.name: np.arange(int((1 - part) * group.size)) for group in graph.groups}
    done = cut(model, graph, {name: nodes for name, nodes in removed.items() if len(nodes)}, x)
    index_map.cut(graph, done.removed)
    with evaluation_mode(model, done.model):
        return find_targets(model, done.model, index_map.kept, index_map.gains, x)[1], done.model


def test_residual_blocks_and_their_nodes_are_found() -> None:
    model = randomise(timm.create_model("resnet18", num_classes=7))
    x = torch.randn(2, 3, 64, 64)
    found, small = blocks(model, x, 0.5)
    assert [block.name for block in found] == ["layer1", "layer2", "layer3", "layer4"]
    assert found[1].layers[:3] == ("layer2.0.conv1", "layer2.0.conv2", "layer2.0.downsample.0")
    for block in found:
        assert block.kept is not None
        width = small.get_submodule(block.name).get_parameter("1.bn2.weight").numel()
        assert len(block.kept) == width == len(block.kept.unique())
        assert int(block.kept.min()) >= width


def test_transformer_and_inverted_blocks_are_found() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5)
    found, _ = blocks(vit, torch.randn(2, 3, 32, 32))
    assert [block.name for block in found] == ["blocks.0", "blocks.1"]
    assert found[0].dim == -1
    mobile = timm.create_model("mobilenetv3_small_050", num_classes=5)
    inverted, _ = blocks(mobile, torch.randn(2, 3, 64, 64), 0.8)
    assert {"blocks.1", "blocks.2.1", "blocks.3.0", "blocks.4.1"} <= {b.name for b in inverted}
    assert not any(block.name.endswith(".se") for block in inverted)


class Shared(nn.Module):
    """Two layers in a module that runs twice, and two whose weight the head shares."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
        self.tied = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 6))
        self.head = nn.Linear(6, 9)
        self.head.weight = self.tied.get_parameter("0.weight")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.tied(self.twice(self.twice(x))))


def test_what_runs_twice_or_shares_weights_is_no_block() -> None:
    model = randomise(Shared())
    small = copy.deepcopy(model)
    with evaluation_mode(model, small):
        assert find_targets(model, small, {}, {}, torch.randn(2, 6))[1] == []


class Tail(nn.Module):
    """A layer whose outputs are the rows of its parameter from one on."""

    def __init__(self, first: int) -> None:
        super().__init__()
        torch.manual_seed(first)
        self.first, self.last = first, nn.Linear(8, 3)
        self.weight = nn.Parameter(torch.randn(first + 8, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(nn.functional.linear(x, self.weight[self.first :])))


@pytest.mark.parametrize("first", [0, 3])
def test_outputs_are_the_dense_layers_where_they_are_part_of_a_parameter(first: int) -> None:
    model, x = Tail(first).eval(), torch.randn(4, 6)
    with call_layers(model, x):
        graph = trace(model, x)
        index_map = IndexMap(model, graph)
        done = cut(model, graph, {group.name: np.array([0, 1, 4]) for group in graph.groups}, x)
        index_map.cut(graph, done.removed)
        with call_layers(done.model, x), evaluation_mode(model, done.model):
            targets = find_targets(model, done.model, index_map.kept, index_map.gains, x)[0]
    target = next(target for target in targets if target.name != "last")
    assert target.kept is not None
    assert target.kept.tolist() == [2, 3, 5, 6, 7]
