from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.networks import residual
from tsdistill.statistics.linear_readers import batchnorm_after


def test_the_norm_behind_a_layer_is_found() -> None:
    found = batchnorm_after(residual(), ["stem", "first", "second", "head"], torch.randn(1, 3, 8, 8))
    assert found == {"stem": "norm", "first": "first_norm", "second": "second_norm"}


def test_an_output_that_goes_elsewhere_too_or_a_norm_used_twice_does_not_count() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = (nn.Conv2d(3, 3, 1, bias=False) for _ in range(4))
            self.na, self.nb = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.nd = nn.BatchNorm2d(3, track_running_stats=False)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return self.na(y) + y + self.nb(self.b(x)) + self.nb(self.c(x)) + self.nd(self.d(x))

    assert batchnorm_after(Net().eval(), ["a", "b", "c", "d"], torch.randn(1, 3, 4, 4)) == {}


def test_the_model_is_as_before() -> None:
    model = residual().train()
    assert model.norm.running_mean is not None
    mean = model.norm.running_mean.clone()
    batchnorm_after(model, ["stem"], torch.randn(1, 3, 8, 8))
    assert model.training
    assert torch.equal(model.norm.running_mean, mean)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
