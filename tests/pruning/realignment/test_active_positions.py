"""Positions that the output hangs on: of the architecture's making, or all."""

import pytest
import torch
from torch import Tensor, nn

from tests.networks import images, residual
from tests.pruning.realignment.transformer import Classified, Transformer
from tsdistill.pruning.realignment.active_positions import active_positions
from tsdistill.runtime.modes import evaluation_mode


def found(model: nn.Module, dims: dict[str, int], samples: int = 8) -> dict[str, list[int]]:
    with evaluation_mode(model):
        return {
            name: where.tolist()
            for name, where in active_positions(model, dims, images(samples, seed=3)).items()
        }


LAYERS = {"embed": -1, "qkv": -1, "proj": -1, "fc1": -1, "fc2": -1, "last": -1}


def test_behind_the_last_attention_a_class_token_counts_alone() -> None:
    assert found(Classified(), LAYERS) == {name: [0] for name in ("proj", "fc1", "fc2", "last")}


def test_where_all_tokens_are_averaged_all_count() -> None:
    assert found(Transformer(), {name: dim for name, dim in LAYERS.items() if name != "last"}) == {}
    assert found(residual(), {}) == {}


def test_a_strided_layer_of_size_one_reads_every_other_position() -> None:
    first, second = nn.Conv2d(3, 4, 1, stride=2), nn.Conv2d(4, 4, 1, stride=2)
    model = nn.Sequential(first, second, nn.Flatten(), nn.Linear(4 * 4, 2))
    (where,) = found(model, {"0": 1, "1": 1}).values()
    assert where == [0, 2, 8, 10]


class Picked(nn.Module):
    """Reads the position that is largest, another one in every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x).flatten(2)
        place = x.sum(1).argmax(1)
        return self.head(x[torch.arange(len(x)), :, place])


@pytest.mark.parametrize("samples", [8, 3, 1])
def test_positions_that_samples_pick_are_not_taken_for_all_there_are(samples: int) -> None:
    assert found(Picked(), {"layer": 1}, samples) == {}


class Counted(nn.Module):
    """Gives whole numbers, which have no derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.layer(x) > 0).sum(1)


def test_where_nothing_can_be_derived_all_positions_count() -> None:
    assert found(Counted(), {"layer": 1}) == {}
