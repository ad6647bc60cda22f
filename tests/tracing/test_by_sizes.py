"""Code that goes by the sizes it meets: functions that pick their operators by them, checks that look at them
before any operator runs, slices that are reckoned from them."""

import numpy as np
import pytest
import torch
from timm.layers import EvoNorm2dS0
from torch import nn
from torch.nn import functional as F

import tsdistill as tsd
from tests.tracing.networks import randomise
from tests.tracing.own import counted_replays, halved

X = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(1))


class Einsum(nn.Module):
    """Attention by ``torch.einsum``, which leaves out axes of length 1; its heads' values are laid out by a
    view that asks for the number of heads."""

    def __init__(self, heads, width=12):
        super().__init__()
        self.num_heads = heads
        self.embed, self.qkv = nn.Linear(5, width), nn.Linear(width, 3 * width)
        self.proj, self.head = nn.Linear(width, width), nn.Linear(width, 3)

    def forward(self, x):
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, -1).unbind(2)
        weights = torch.einsum("bnhd,bmhd->bhnm", q, k).softmax(-1)
        out = torch.einsum("bhnm,bmhd->bhnd", weights, v).transpose(1, 2).reshape(b, n, -1)
        return self.head((x + self.proj(out)).mean(1))


@pytest.mark.parametrize("heads", [2, 3, 4, 6])
def test_heads_that_meet_in_an_einsum_go_down_to_one(heads, monkeypatch):
    model = randomise(Einsum(heads)).eval()
    graph = tsd.trace(model, X)
    assert graph.by_name["qkv"].size == heads
    calls = counted_replays(monkeypatch)
    result = tsd.cut(model, graph, {"qkv": np.arange(heads - 1), "embed": [0, 5]}, X)
    assert result.put_back == ()
    assert len(calls) == 1
    assert result.model.num_heads == 1


class Gathered(nn.Module):
    """Two class tokens, one beside the other, joined by a convolution of one tap along their channels."""

    def __init__(self, width=10):
        super().__init__()
        self.one, self.two = nn.Linear(5, width), nn.Linear(5, width)
        self.aggregate, self.head = nn.Conv1d(2, 1, 1), nn.Linear(width, 3)

    def forward(self, x):
        tokens = torch.stack([self.one(x).mean(1), self.two(x).mean(1)], dim=1)
        return self.head(self.aggregate(F.relu(tokens)).squeeze(1))


def test_a_convolution_of_one_tap_lets_the_coordinates_along_it_go():
    model = randomise(Gathered()).eval()
    graph, done = halved(model, X)
    assert graph.widths == {"one": 10}
    assert {slot.param for slot in graph.groups[0].slots} >= {"one.weight", "two.weight", "head.weight"}
    assert done.put_back == ()
    assert done.model.head.in_features == 5
    macs = graph.macs({"one": 5}) / graph.macs()
    assert macs == pytest.approx(0.5)


def test_a_convolution_of_several_taps_keeps_its_extent():
    model = Gathered()
    model.aggregate = nn.Conv1d(2, 1, 3, padding=1)
    graph = tsd.trace(randomise(model).eval(), X)
    assert graph.groups == ()
    assert any("the extent of a convolution" in item.cause for item in graph.frozen)


def test_groups_that_a_norm_asserts_are_foreseen(monkeypatch):
    model = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1),
        EvoNorm2dS0(24, groups=6),
        nn.Conv2d(24, 18, 1),
        EvoNorm2dS0(18, group_size=3),
        nn.Conv2d(18, 2, 1),
    )
    x = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    randomise(model).eval()
    calls = counted_replays(monkeypatch)
    graph = tsd.trace(model, x)
    assert len(calls) == 1
    assert graph.widths == {"0": 6, "2": 6}
    small = tsd.cut(model, graph, {"0": [0, 3], "2": [5]}, x)
    assert small.put_back == ()
    assert (small.model[1].groups, small.model[3].groups) == (4, 5)


class Area(nn.Module):
    """Attention that keeps the width of all its heads beside their number, with a depthwise convolution of
    their values, as in YOLO12."""

    def __init__(self, width=24, heads=2):
        super().__init__()
        self.parts, self.size, self.inner = heads, width // heads, width
        self.qkv, self.proj = nn.Conv1d(width, 3 * width, 1), nn.Conv1d(width, width, 1)
        self.pe = nn.Conv1d(width, width, 3, padding=1, groups=width)

    def forward(self, x):
        b, _, n = x.shape
        qkv = self.qkv(x).transpose(1, 2).reshape(b * 2, n // 2, self.inner * 3)
        qkv = qkv.view(2 * b, n // 2, self.parts, self.size * 3).permute(0, 2, 3, 1)
        q, k, v = qkv.split([self.size] * 3, dim=2)
        out = v @ (q.transpose(-2, -1) @ k * 0.3).softmax(-1).transpose(-2, -1)
        out, v = (
            t.permute(0, 3, 1, 2).reshape(b, n, self.inner).permute(0, 2, 1).contiguous() for t in (out, v)
        )
        return self.proj(out + self.pe(v))


def test_a_depthwise_convolution_keeps_its_groups_while_numbers_above_it_are_looked_for(monkeypatch):
    model = nn.Sequential(nn.Conv1d(5, 24, 1), Area(), nn.Conv1d(24, 2, 1))
    x = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(1))
    randomise(model).eval()
    calls = counted_replays(monkeypatch)
    graph = tsd.trace(model, x)
    assert len(calls) == 2
    assert graph.by_name["1.qkv"].size == 2
    small = tsd.cut(model, graph, {"1.qkv": [1], "0": [0, 1, 2]}, x)
    assert small.put_back == ()
    found = small.model[1]
    assert (found.parts, found.inner, found.pe.groups) == (1, 12, 12)


def test_numbers_of_heads_are_foreseen(monkeypatch):
    """Three heads, of queries, keys and values, three of them: one number is told from the other."""
    calls = counted_replays(monkeypatch)
    graph = tsd.trace(randomise(Einsum(3)).eval(), X)
    assert graph.by_name["qkv"].size == 3
    assert len(calls) == 1


class Thirds(nn.Module):
    """Zeroes the middle third of a bias, whose place it reckons from the length, as Swin V2 does."""

    def __init__(self, width=12):
        super().__init__()
        self.first, self.last = nn.Linear(5, 3 * width), nn.Linear(width, 3)

    def forward(self, x):
        bias = self.first.bias.clone()
        length = bias.numel() // 3
        bias[length : 2 * length].zero_()
        one, two, three = F.linear(x, self.first.weight, bias).reshape(*x.shape[:2], 3, -1).unbind(2)
        return self.last(torch.relu(one) * torch.sigmoid(two) + three)


@pytest.mark.parametrize("count", [3, 6, 8])
def test_slices_between_two_reckoned_places_are_no_stale_sizes(count):
    model = randomise(Thirds()).eval()
    graph = tsd.trace(model, X)
    assert graph.widths == {"first": 12}
    assert tsd.cut(model, graph, {"first": list(range(count))}, X).put_back == ()
