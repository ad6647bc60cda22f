"""The modes in which models are run are put back, whatever happens inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tsdistill.runtime.modes import evaluation_in_use, evaluation_mode, plain_evaluation


class _Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x)


def _model() -> nn.Module:
    """Some parts of it train, others do not, and one is scripted."""
    model = nn.Sequential(nn.BatchNorm1d(4), torch.jit.script(_Part()), nn.Dropout(0.5), nn.Linear(4, 4))
    model.train()
    model[0].eval()
    for parameter in model[3].parameters():
        parameter.requires_grad_(False)
    return model


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("block", [evaluation_mode, plain_evaluation, evaluation_in_use])
def test_every_module_evaluates_inside_and_is_put_back(block: Callable[..., Any]) -> None:
    model, x = _model(), torch.randn(8, 4)
    before = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    with block(model):
        assert torch.equal(model[1](x), x)
        assert torch.equal(model[2](x), x)
    with pytest.raises(ValueError, match="2D"), block(model):
        model(x[0])
    assert [module.training for module in model.modules()] == before
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert not torch.equal(model[1](x), x)


def test_products_are_seen_through_fused_attention() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(1, 3, 8)
    names: list[str] = []

    class Names(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            names.append(str(func))
            return func(*args, **(kwargs or {}))

    with evaluation_mode(attention, fast=True, products=True), torch.no_grad(), Names():
        attention(x, x, x)
    assert any("mm" in name for name in names)
    assert not any("native_multi_head" in name or "scaled_dot_product" in name for name in names)
