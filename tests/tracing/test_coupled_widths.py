"""Widths that a forward takes from one another, and numbers that several attributes might stand for."""

import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.tracing.networks import randomise, zeroed
from tsdistill.tracing import cut, trace


class Attention(nn.Module):
    """Attention that takes the width of its heads' outputs from its input, as many of timm's do."""

    def __init__(self, width, heads, whole):
        super().__init__()
        self.num_heads, self.whole = heads, whole
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        B, N, C = x.shape
        size = C // self.num_heads if self.whole else -1
        q, k, v = self.qkv(x).reshape(B, N, 3, self.num_heads, size).permute(2, 0, 3, 1, 4).unbind(0)
        attended = (q @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v
        return self.proj(attended.transpose(1, 2).reshape(B, N, C))


class Transformer(nn.Module):
    def __init__(self, width=24, heads=6, whole=False):
        super().__init__()
        self.embed = nn.Linear(5, width)
        self.blocks = nn.ModuleList(Attention(width, heads, whole) for _ in range(2))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 30), nn.GELU(), nn.Linear(30, width)) for _ in range(2)
        )
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        x = self.embed(x)
        for block, mlp in zip(self.blocks, self.mlps, strict=True):
            x = x + block(x)
            x = x + mlp(x)
        return self.head(x.mean(1))


@pytest.mark.parametrize("whole", [False, True])
def test_a_stream_whose_width_an_attention_asks_for_goes_with_its_heads(whole):
    model = randomise(Transformer(whole=whole)).eval()
    x = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(1))
    graph = trace(model, x)
    stream = graph.by_name["embed"]
    assert stream.size == 4
    assert {"embed.weight", "blocks.0.qkv.weight", "blocks.1.qkv.weight"} <= {s.param for s in stream.slots}
    removed = {group.name: np.arange(group.size // 2) for group in graph.groups}
    result = cut(model, graph, removed, x)
    assert result.put_back == ()
    assert result.model.embed.out_features == 12
    batch = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found, wanted = result.model(batch), zeroed(model, graph, removed)(batch)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


class Generator(nn.Module):
    """Causal attention written as in nanoGPT: C // n_head, scaled by the size of a head."""

    def __init__(self, width, heads, kept):
        super().__init__()
        self.n_head, self.n_embd, self.kept = heads, width, kept
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd if self.kept else C, dim=2)
        q, k, v = (y.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("heads", [2, 4, 8])
def test_heads_whose_size_is_taken_from_the_stream_stay_whole_and_shrink_with_it(kept, heads):
    """A node of the stream is as many channels as there are heads, and a coordinate of every head."""
    model = Transformer(width=32)
    model.blocks = nn.ModuleList(Generator(32, heads, kept) for _ in range(2))
    randomise(model).eval()
    x = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(1))
    graph = trace(model, x)
    size = 32 // heads
    assert [note for note in graph.notes if "embed" in note and f"{heads} of its channels" in note]
    assert graph.widths == {"embed": size, "mlps.0.0": 30, "mlps.1.0": 30}
    for count in (1, size // 2):
        result = cut(model, graph, {"embed": range(count)}, x)
        assert result.put_back == ()
        assert result.model.embed.out_features == 32 - heads * count
        assert all(block.n_head == heads for block in result.model.blocks)
        shapes = {tuple(block.c_attn.weight.shape) for block in result.model.blocks}
        assert shapes == {(3 * (32 - heads * count), 32 - heads * count)}


def test_a_stream_loses_what_heads_of_different_numbers_have_in_common():
    model = Transformer(width=32)
    model.blocks = nn.ModuleList([Generator(32, 2, False), Generator(32, 8, False)])
    randomise(model).eval()
    x = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(1))
    graph = trace(model, x)
    assert graph.widths["embed"] == 4
    result = cut(model, graph, {"embed": [1]}, x)
    assert result.put_back == ()
    assert [block.n_head for block in result.model.blocks] == [2, 8]


def test_any_number_of_nodes_may_go_from_a_tied_stream():
    model = randomise(Transformer()).eval()
    x = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(1))
    graph = trace(model, x)
    for count in range(1, graph.by_name["embed"].size):
        assert cut(model, graph, {"embed": np.arange(count)}, x).put_back == ()


class Square(nn.Module):
    """As many heads as each is large: two attributes of one value."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.key_dim = 4, 4
        self.embed = nn.Linear(5, 16)
        self.qkv = nn.Linear(16, 48)
        self.proj = nn.Linear(16, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.embed(x)
        B, N, _ = x.shape
        q, k, v = (
            self.qkv(x)
            .view(B, N, self.num_heads, -1)
            .split([self.key_dim, self.key_dim, self.key_dim], dim=3)
        )
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        attended = (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v
        return self.head((x + self.proj(attended.transpose(1, 2).reshape(B, N, -1))).mean(1))


def test_two_attributes_of_the_same_value_are_told_apart():
    model = randomise(Square()).eval()
    x = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(1))
    graph = trace(model, x)
    result = cut(model, graph, {"qkv": [0, 2]}, x)
    assert result.put_back == ()
    assert (result.model.num_heads, result.model.key_dim) in ((2, 4), (4, 2))
    with torch.no_grad():
        wanted = zeroed(model, graph, {"qkv": [0, 2]})(x)
        torch.testing.assert_close(result.model(x), wanted, rtol=1e-4, atol=1e-4)


class Standardised(nn.Conv2d):
    """A convolution whose weight is standardised by a batch norm, as in the NF networks."""

    def __init__(self, width, out):
        super().__init__(width, out, 3, padding=1)
        self.gain = nn.Parameter(torch.ones(out, 1, 1, 1))

    def forward(self, x):
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, self.gain.view(-1), training=True, momentum=0.0)
        return F.conv2d(x, weight.reshape_as(self.weight), self.bias, padding=1)


def test_weights_that_are_standardised_over_what_they_read_are_cut():
    model = nn.Sequential(
        Standardised(3, 8), nn.SiLU(), Standardised(8, 10), nn.SiLU(), Standardised(10, 4), nn.Flatten()
    )
    randomise(model).eval()
    x = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    graph = trace(model, x)
    assert {name: group.size for name, group in graph.by_name.items()} == {"0": 8, "2": 10}
    assert all(group.readers[0].module is not None for group in graph.groups)
    result = cut(model, graph, {"0": [1, 5], "2": [0, 1, 2]}, x)
    assert result.put_back == ()
    with torch.no_grad():
        gone = torch.ones(8, dtype=torch.bool)
        gone[[1, 5]] = False
        alone = Standardised(6, 10).eval()
        alone.weight, alone.gain, alone.bias = (nn.Parameter(t) for t in _read(model[2], gone))
        hidden = model[1](model[0](x))[:, gone]
        torch.testing.assert_close(
            result.model[2](result.model[1](result.model[0](x))), alone(hidden)[:, 3:], rtol=1e-4, atol=1e-4
        )


def _read(layer, stays):
    return layer.weight[:, stays].clone(), layer.gain.clone(), layer.bias.clone()


class Crossed(nn.Module):
    """As ``Attention``; the heads lie the other way round in what leaves it: (d, h) instead of (h, d)."""

    def __init__(self, width, heads):
        super().__init__()
        self.num_heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = (
            self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        )
        attended = (q @ k.transpose(-2, -1) * 0.4).softmax(-1) @ v
        return self.proj(attended.permute(0, 2, 3, 1).reshape(B, N, C))


def test_heads_that_are_seen_in_two_orders_do_not_become_one(monkeypatch):
    """The second attention keeps 3 heads of 9 on trial, as 28 // 3 says of the stream, too, so that only what
    leaves it, in the other order, shows that the widths are tied."""
    model = Transformer(width=36)
    model.blocks = nn.ModuleList(Crossed(36, 4) for _ in range(2))
    randomise(model).eval()
    x = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(1))
    kept = {"embed": 28, "blocks.0.qkv": 2, "blocks.1.qkv": 3}
    module = sys.modules["tsdistill.tracing.trace"]
    original = module.validation_cut

    def chosen(graph, turn, **how):
        trial = original(graph, turn, **how)
        if graph.by_name["embed"].size == 36:
            trial |= {name: np.arange(graph.widths[name] - count) for name, count in kept.items()}
        return trial

    monkeypatch.setattr(module, "validation_cut", chosen)
    graph = trace(model, x)
    assert graph.by_name["embed"].size == 9
    removed = {"embed": [1, 2], "mlps.0.0": [3]}
    result = cut(model, graph, removed, x)
    assert result.put_back == ()
    with torch.no_grad():
        torch.testing.assert_close(result.model(x), zeroed(model, graph, removed)(x), rtol=1e-4, atol=1e-4)
