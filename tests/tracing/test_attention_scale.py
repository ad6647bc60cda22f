from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.tracing.attention import SCALES, Attention, attention
from tsdistill.tracing import NodeGraph, cut, trace
from tsdistill.tracing.block_axes import head_size_groups


def sized(model: nn.Module, x: Tensor) -> NodeGraph:
    """The graph in which the coordinates of all heads are nodes."""
    forks = head_size_groups(trace(model, x))
    return trace(model, x, axes={number: axis for own in forks.values() for number, axis in own.items()})


def without(model: Attention, gone: list[int]) -> Attention:
    """A copy whose queries, keys and values are 0 at these coordinates of every head."""
    zeroed = copy.deepcopy(model)
    rows = torch.zeros(3 * model.heads, model.head_dim, dtype=torch.bool)
    rows[:, gone] = True
    with torch.no_grad():
        for value in zeroed.qkv.parameters():
            value[rows.reshape(-1)] = 0
    return zeroed


@pytest.mark.parametrize("scale", SCALES)
def test_a_smaller_head_keeps_the_scale_of_its_logits(scale: str) -> None:
    model, x = attention(scale), torch.randn(4, 7, 6)
    graph = sized(model, x[:1])
    (group,) = [group for group in graph.groups if group.name == "qkv"]
    assert group.size == 8
    gone = [0, 2, 3, 5, 7]
    done = cut(model, graph, {"qkv": gone}, x[:1])
    assert not done.put_back
    with torch.no_grad():
        assert torch.allclose(done.model(x), without(model, gone)(x), atol=1e-4)
        assert not torch.allclose(done.model(x), model(x), atol=1e-1)


def test_it_stays_right_over_several_cuts_and_says_how_activations_grew() -> None:
    model, x = attention(), torch.randn(4, 7, 6)
    first = cut(model, sized(model, x[:1]), {"qkv": [1, 4]}, x[:1])
    graph = sized(first.model, x[:1])
    second = cut(first.model, graph, {"qkv": [0, 5]}, x[:1])
    with torch.no_grad():
        assert torch.allclose(second.model(x), without(model, [1, 4, 0, 7])(x), atol=1e-4)
    for done, times in ((first, (6 / 8) ** 0.25), (second, (4 / 6) ** 0.25)):
        assert done.gains.keys() == {("qkv.weight", 0), ("qkv.bias", 0), ("proj.weight", 1)}
        assert all(np.allclose(each, times) for each in done.gains.values())


class Two(nn.Module):
    """Two such blocks, one behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.between, self.second = attention(packed=False), nn.Linear(5, 6), attention()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self.first(x)))


def test_a_block_goes_by_the_same_axis_when_one_before_it_is_left_with_one_head() -> None:
    model, x = Two().eval(), torch.randn(1, 7, 6)
    axes = head_size_groups(trace(model, x))["second.qkv"]
    graph = trace(model, x, axes=axes)
    assert (graph.by_name["first.q"].size, graph.by_name["second.qkv"].size) == (3, 8)
    small = cut(model, graph, {"first.q": [0, 2]}, x).model
    again = trace(small, x, like=graph)
    assert again.by_name["second.qkv"].size == 8
    assert not cut(small, again, {"second.qkv": [1, 2]}, x).put_back


def test_a_constant_scale_needs_no_making_up() -> None:
    model, x = attention("attribute"), torch.randn(1, 7, 6)
    assert cut(model, sized(model, x), {"qkv": [0, 1]}, x).gains == {}


class Normed(Attention):
    def __init__(self) -> None:
        super().__init__("fused")
        self.norm = nn.LayerNorm(self.head_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = map(self.split, self.qkv(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(self.norm(q), self.norm(k), v)
        return self.end(x + self.proj(y.transpose(1, 2).flatten(2)))


def test_where_the_scale_cannot_be_made_up_heads_go_whole() -> None:
    torch.manual_seed(0)
    model, x = Normed().eval(), torch.randn(2, 7, 6)
    graph = sized(model, x[:1])
    (group,) = [group for group in graph.groups if group.name == "qkv"]
    assert group.size == model.heads
    assert not cut(model, graph, {"qkv": [1]}, x[:1]).put_back


def test_heads_are_what_goes_unless_it_is_asked_for() -> None:
    model, x = attention(), torch.randn(1, 7, 6)
    assert trace(model, x).widths["qkv"] == model.heads
    assert head_size_groups(trace(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2)), torch.randn(1, 6))) == {}


class Rotated(nn.Module):
    """Four queries, one key and one value a head, turned by frequencies that are a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.head_dim = 4, 8
        self.qkv, self.out = nn.Linear(6, 48), nn.Linear(32, 5)
        self.register_buffer("frequencies", torch.linspace(0.1, 1.0, 8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        made = self.qkv(x).view(batch, length, self.heads + 2, self.head_dim).transpose(1, 2)
        turned = made * torch.cos(torch.arange(length)[:, None] * self.frequencies)
        q, k, v = turned[:, :-2], turned[:, [-2]], made[:, [-1]]
        k, v = (each.expand(batch, self.heads, length, self.head_dim) for each in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, self.heads * self.head_dim))


def test_what_turns_queries_and_keys_is_no_hindrance() -> None:
    torch.manual_seed(0)
    model, x = Rotated(), torch.randn(1, 7, 6)
    with torch.no_grad():
        model.qkv.weight.mul_(3)
    graph = trace(model, x)
    (group,) = graph.groups
    assert group.size == 8
    gone = [0, 2, 3, 5, 7]
    done = cut(model, graph, {group.name: gone}, x)
    assert not done.put_back
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        for value in zeroed.qkv.parameters():
            value.view(6, 8, -1)[:, gone] = 0
        torch.testing.assert_close(done.model(x), zeroed(x), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(done.model(x), model(x), atol=1e-1)
