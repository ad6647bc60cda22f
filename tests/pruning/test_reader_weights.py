from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tsdistill.pruning.reader_weights import ReadingWeight


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
