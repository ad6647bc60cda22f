from typing import Any

import pytest
import torch
from torch import nn

from tsdistill.pruning.compensate import ReadingWeight
from tsdistill.statistics.unfold import (
    channel_dim,
    fan_in_rows,
    has_rows,
    inputs_per_output,
    output_count,
    output_rows,
)

LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Linear(5, 7), (4, 5)),
    (nn.Linear(5, 7, bias=False), (4, 3, 6, 5)),
    (nn.Conv1d(4, 6, 3, stride=2, padding=1), (3, 4, 11)),
    (nn.Conv2d(4, 6, 3, padding=1), (3, 4, 8, 7)),
    (nn.Conv2d(4, 6, (3, 1), stride=(2, 3), padding=(1, 0), dilation=(2, 1)), (3, 4, 12, 9)),
    (nn.Conv2d(6, 9, 3, groups=3, padding=2, bias=False), (2, 6, 5, 5)),
    (nn.Conv2d(6, 6, 5, groups=6, padding=2), (2, 6, 9, 6)),
    (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 6, 6)),
    (nn.Conv2d(4, 6, 4, padding="same"), (2, 4, 6, 5)),
    (nn.Conv3d(2, 4, 3, stride=(1, 2, 1), padding=1, groups=2), (2, 2, 4, 5, 6)),
    (nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1), (3, 4, 7)),
    (nn.ConvTranspose2d(4, 6, 3, stride=(2, 3), output_padding=(1, 0), dilation=(1, 2)), (2, 4, 5, 4)),
    (nn.ConvTranspose2d(6, 9, 3, groups=3, bias=False), (2, 6, 4, 5)),
    (nn.ConvTranspose3d(3, 5, 2, stride=2), (2, 3, 3, 2, 4)),
    (nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(4, 6, 4, stride=2)), (3, 4, 7)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=[str(layer) for layer, _ in LAYERS])
def test_rows_times_the_weight_are_the_output(layer: Any, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    with torch.no_grad():
        y = layer(x)
    dim = channel_dim(layer)
    positions = y.numel() // (y.shape[0] * y.shape[dim])
    places = torch.randperm(positions)[: max(1, positions // 2)].sort().values
    rows = fan_in_rows(layer, x, places)
    groups, entries = inputs_per_output(layer)
    assert rows.shape == (groups, shape[0] * len(places), entries)
    weight = ReadingWeight(layer).blocks.float().flatten(2)
    assert weight.shape == (groups, output_count(layer) // groups, entries)
    assert has_rows(layer, x, y)
    made = (rows @ weight.transpose(1, 2)).transpose(0, 1).flatten(1)
    if layer.bias is not None:
        made = made + layer.bias.detach()
    torch.testing.assert_close(made, output_rows(y, dim, places), atol=1e-5, rtol=1e-4)


def test_rows_of_another_size_than_a_transposed_convolution_has_are_not_known() -> None:
    layer, x = nn.ConvTranspose1d(3, 2, 3, stride=2), torch.randn(1, 3, 5)
    assert has_rows(layer, x, layer(x))
    assert not has_rows(layer, x, layer(x, output_size=[12]))
