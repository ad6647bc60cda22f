"""Numbers that a forward makes of others: a trial cut tells them apart, and what shares one goes together."""

import sys

import torch
from torch import nn
from torch.nn import functional as F

import tsdistill as tsd
from tests.tracing.networks import randomise


class Partly(nn.Module):
    """Attention over the first channels of a stream, whose number it keeps beside that of all of them, and
    gives to the values, too."""

    def __init__(self, width: int = 24, part: int = 10, size: int = 4) -> None:
        super().__init__()
        self.width, self.part, self.size = width, part, size
        self.qkv = nn.Linear(part, 2 * size + part)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, other = torch.split(x, [self.part, self.width - self.part], dim=-1)
        q, k, v = self.qkv(one).split([self.size, self.size, self.part], dim=-1)
        one = F.softmax(q @ k.transpose(-2, -1), dim=-1) @ v
        return self.proj(torch.cat([one, other], dim=-1))


class Crossed(nn.Module):
    """Attention whose heads lie side by side in what leaves it: channel (d, h) instead of (h, d)."""

    def __init__(self, width: int = 24, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        out = F.softmax(q @ k.transpose(-2, -1) / 2, dim=-1) @ v
        return self.proj(out.permute(0, 2, 3, 1).reshape(batch, tokens, width))


class Lazy(nn.Module):
    """A layer that computes a table when it first runs and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(12, 12)
        self.table: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.table is None:
            places = torch.arange(x.shape[1], dtype=x.dtype)
            self.table = (places[:, None] - places).abs().softmax(-1)
        return self.table @ self.lift(x)


class Transformer(nn.Module):
    """Blocks on a residual stream between two linear layers."""

    def __init__(self, width: int, *blocks: nn.Module) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = nn.Linear(5, width), nn.ModuleList(blocks), nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean(1))


INPUT = torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(0))


def _cut_by_halves(model: nn.Module) -> tuple[tsd.NodeGraph, nn.Module]:
    graph = tsd.trace(model, INPUT)
    result = tsd.cut(model, graph, {g.name: range(g.size // 2) for g in graph.groups}, INPUT)
    assert not result.put_back
    return graph, result.model


def test_a_number_that_two_widths_are_split_by_ties_them():
    model = randomise(Transformer(24, Partly(), Partly()))
    graph, small = _cut_by_halves(model)
    assert [item.name for item in graph.frozen] == ["head"]
    parts = [(block.part, block.width) for block in small.blocks]
    assert parts == [(5, 12), (5, 12)]
    assert all(block.qkv.out_features == 2 * block.size + block.part for block in small.blocks)


def test_heads_that_leave_in_another_order_are_tied_in_one():
    model = randomise(Transformer(24, Crossed(), Crossed()))
    graph, small = _cut_by_halves(model)
    assert graph.widths == {"stem": 6}
    assert (small.stem.out_features, small.blocks[1].heads) == (12, 4)


def test_a_stream_on_two_heads_loses_two_channels_at_once():
    graph, small = _cut_by_halves(randomise(Transformer(24, Crossed(heads=2), Crossed(heads=2))))
    assert graph.widths == {"stem": 12}
    assert (small.stem.out_features, small.blocks[1].heads) == (12, 2)


def test_blocks_of_few_heads_are_all_tied_at_once(monkeypatch):
    module = sys.modules["tsdistill.tracing.trace"]
    tries = []

    def counted(*arguments, attempt=module._attempt):
        tries.append(arguments)
        return attempt(*arguments)

    monkeypatch.setattr(module, "_attempt", counted)
    graph = tsd.trace(randomise(Transformer(24, *(Crossed() for _ in range(6)))), INPUT)
    assert graph.widths == {"stem": 6}
    assert len(tries) == 3


def test_what_a_module_computes_once_is_not_taken_for_its_forward():
    model = randomise(Transformer(12, Lazy(), Lazy()))
    graph, small = _cut_by_halves(model)
    assert [item.name for item in graph.frozen] == ["head"]
    assert small.stem.out_features == 6
