from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.alignment.absorbing import absorbs
from tsdistill.tracing import Reader


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
