import copy

import numpy as np
import timm
import torch
from torch import Tensor, nn

from tests.networks import randomise
from tsdistill.pruning.pruning_state import IndexMap
from tsdistill.pruning.realignment.target_layers import Block, find_targets
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
