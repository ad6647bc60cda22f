from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tests.tracing.attention import Attention, attention
from tsdistill.statistics.outer_products import OuterProducts, QueryReaders
from tsdistill.tracing import trace
from tsdistill.tracing.block_axes import head_size_groups


class Weighed(Attention):
    """With a factor on every coordinate of queries."""

    def __init__(self, like: Attention) -> None:
        super().__init__("fused", like.heads, like.head_dim, 20)
        self.load_state_dict(like.state_dict())
        self.factor = torch.ones(like.head_dim, requires_grad=True)

    def split(self, x: Tensor) -> Tensor:
        whole = super().split(x)
        return whole * self.factor if getattr(self, "first", True) else whole

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = self.qkv(x).chunk(3, -1)
        self.first = True
        q = self.split(q)
        self.first = False
        y = nn.functional.scaled_dot_product_attention(q, self.split(k), self.split(v))
        return self.end(x + self.proj(y.transpose(1, 2).flatten(2)))


def test_it_is_the_derivative_by_a_factor_on_the_product() -> None:
    model, x = attention(heads=1), torch.randn(1, 5, 6)
    forks = head_size_groups(trace(model, x))
    assert forks == {}  # a single head has no other way
    graph = trace(model, x)
    assert graph.widths["qkv"] == 8
    slot = next(slot for slot in graph.by_name["qkv"].slots if slot.param == "qkv.weight" and slot.dim == 0)
    column = np.flatnonzero(slot.coords[0] < 8)
    found = OuterProducts(model, graph, {"qkv": QueryReaders("qkv", column)})
    direction = torch.randn(5)
    found.begin(0, 1)
    with found:
        # Only the second position asks, so that there is one term a node.
        model(x)[0, 1].backward(direction)
    weighed = Weighed(model).eval()
    weighed(x)[0, 1].backward(direction)
    assert weighed.factor.grad is not None
    assert np.allclose(
        found.finish().means["qkv"].sum(0), weighed.factor.grad.double().square().numpy(), rtol=1e-3
    )
    assert not model.qkv._forward_hooks
