from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tsdistill.pruning.absorbing.weights import ReadingWeight, absorbs
from tsdistill.tracing import Reader


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(6, 4), torch.randn(3, 6)),
        (nn.Conv2d(6, 4, 3), torch.randn(2, 6, 5, 5)),
        (nn.Conv2d(6, 4, 3, groups=2), torch.randn(2, 6, 5, 5)),
        (nn.ConvTranspose2d(6, 4, 3, groups=2), torch.randn(2, 6, 5, 5)),
        (nn.Conv1d(6, 4, 2), torch.randn(2, 6, 5)),
    ],
)
def test_blocks_address_outputs_and_inputs_of_any_layer(layer: nn.Module, x: Tensor) -> None:
    weight = ReadingWeight(layer)
    groups, outputs, inputs, _ = weight.blocks.shape
    assert groups * inputs == 6
    before = layer(x)
    weight.write()
    assert torch.equal(layer(x), before)
    weight.blocks[-1, :, inputs - 1] = 0
    weight.write()
    without = x.clone()
    without[:, 5] = 0
    reference = layer(without)
    torch.testing.assert_close(layer(x), reference)
    weight.blocks[:, outputs - 1] = 0
    weight.write()
    silent = layer(x).movedim(1, -1).reshape(-1, 4)[:, 3]
    bias = layer.bias[3].expand_as(silent)
    torch.testing.assert_close(silent, bias)


def _reader(name: str) -> Reader:
    return Reader(name, f"{name}.weight", 1, 1, np.arange(4)[:, None])


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, centred / self.weight.std((1, 2, 3), keepdim=True), self.bias)


class Padded(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))


def test_only_plain_linear_layers_absorb() -> None:
    sample = torch.randn(1, 4, 8, 8)
    for layer, expected in (
        (nn.Conv2d(4, 3, 3), True),
        (Padded(4, 3, 3), True),
        (Standardised(4, 3, 3), False),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 3, 1)), False),
    ):
        assert absorbs(nn.Sequential(layer), _reader("0"), sample) is expected
    assert not absorbs(nn.Sequential(Padded(4, 3, 3)), _reader("0"), None)
    assert not absorbs(
        nn.Sequential(nn.Linear(4, 3)), Reader(None, "0.weight", 1, -1, np.arange(4)[:, None]), None
    )


def test_weights_that_two_layers_share_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert not absorbs(model, _reader("1"), None)
