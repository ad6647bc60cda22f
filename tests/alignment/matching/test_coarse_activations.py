from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.alignment.matching.traced import look, side
from tests.networks import images, mlp, residual
from tsdistill.alignment.matching.coarse_activations import (
    CoarseActivations,
    on_grid,
    with_positions,
)
from tsdistill.errors import TsdistillError
from tsdistill.runtime.modes import evaluation_mode


def _positions(x: Tensor, channel_dim: int, repeats: int = 1, samples: int = 2) -> Tensor:
    channels = x.movedim(channel_dim, 1).shape[1]
    found = with_positions(x, channel_dim, torch.arange(channels), repeats, samples)
    assert found is not None
    return found


def test_tokens_behind_a_class_token_are_a_map() -> None:
    feature_map = torch.randn(2, 5, 4, 4)
    tokens = torch.cat([torch.randn(2, 1, 5), feature_map.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(_positions(tokens, -1), feature_map)


def test_windows_in_the_batch_dimension_go_back_into_the_map() -> None:
    feature_map = torch.randn(2, 5, 6, 6)
    windows = feature_map.reshape(2, 5, 2, 3, 2, 3).permute(0, 2, 4, 3, 5, 1).reshape(8, 9, 5)
    assert torch.equal(_positions(windows, -1), feature_map)


def test_channels_last_and_sequence_first_inputs() -> None:
    feature_map = torch.randn(2, 5, 4, 3)
    assert torch.equal(_positions(feature_map.movedim(1, -1), -1), feature_map)
    sequence = torch.randn(15, 2, 5)
    assert torch.equal(_positions(sequence, -1), sequence.permute(1, 2, 0))


def test_a_flattened_map_is_a_map_again() -> None:
    feature_map = torch.randn(2, 5, 4, 4)
    assert torch.equal(_positions(feature_map.flatten(1), -1, repeats=16), feature_map)


def test_some_of_the_channels() -> None:
    x = torch.randn(2, 5, 4, 4)
    found = with_positions(x, 1, torch.tensor([4, 1]), 1, 2)
    assert found is not None
    assert torch.equal(found, x[:, [4, 1]])


def test_samples_that_cannot_be_told_apart() -> None:
    assert with_positions(torch.randn(3, 5), -1, torch.arange(5), 1, 2) is None


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (2, 3, 2, 4, 6)])
def test_the_grid_holds_the_means_of_the_quarters(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    plane = x.mean(2) if x.ndim == 5 else x
    quarters = plane.reshape(2, 3, 2, 2, 2, 3).mean((3, 5)).flatten(1)
    torch.testing.assert_close(on_grid(x, True), quarters)


def test_sequences_and_vectors_on_the_grid() -> None:
    sequence = torch.randn(2, 3, 8)
    torch.testing.assert_close(on_grid(sequence, True), sequence.unflatten(2, (4, 2)).mean(3).flatten(1))
    assert on_grid(torch.randn(2, 3, 1, 1), False).shape == (2, 3)
    assert on_grid(torch.randn(2, 3), True).shape == (2, 12)


def test_groups_come_in_the_order_in_which_they_are_read() -> None:
    model = residual()
    seen, found = look(model, images(6), images(3, seed=1))
    assert list(found) == ["first", "stem"]
    assert seen.order["first"] < seen.order["stem"]
    assert found["first"].shape == (9, 12 * 4)
    assert seen.positions == {"first": 64, "stem": 4}


def test_the_last_call_of_a_layer_counts() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.read = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.enter(x)
            return self.read(x) + self.read(x**2)

    model, x = Twice(), torch.randn(5, 3)
    seen, found = look(model, x)
    torch.testing.assert_close(found["enter"], model.enter(x).detach() ** 2)
    assert seen.order == {"enter": 2}


def test_nothing_stays_on_the_model() -> None:
    model = mlp(4, 9, 2)
    model.train()
    look(model, torch.randn(5, 4))
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_activations_that_are_not_finite_name_the_layer() -> None:
    model = mlp(4, 9, 8, 2)
    seen = CoarseActivations(side(model, torch.randn(1, 4)), "teacher")
    weight = model[2].weight
    assert isinstance(weight, Tensor)
    weight.data[0, 0] = torch.nan
    with evaluation_mode(model), torch.no_grad():
        seen.collect(torch.randn(5, 4))
    with pytest.raises(TsdistillError, match="layer '4' of the teacher"):
        seen.finish()
