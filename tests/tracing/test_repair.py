"""Shape constants that modules keep: how many replays they cost, and several in one attribute."""

from typing import Any

import torch
from torch import nn

import tsdistill as tsd
from tests.tracing.own import counted_replays


class Pieces(nn.Module):
    """Three pieces, their sizes kept in one attribute."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.sizes = list(sizes or (12, 7, 5))
        self.first = nn.Linear(6, sum(self.sizes))
        self.each = nn.ModuleList(nn.Linear(size, 4) for size in self.sizes)

    def forward(self, x):
        pieces = self.first(x).split(self.sizes, dim=-1)
        return sum(layer(torch.relu(piece)) for layer, piece in zip(self.each, pieces, strict=True))


def test_all_numbers_of_an_attribute_change_at_once(monkeypatch):
    model, x = Pieces().eval(), torch.randn(1, 6)
    calls = counted_replays(monkeypatch)
    graph = tsd.trace(model, x)
    assert sorted(group.size for group in graph.groups) == [5, 7, 12]
    assert len(calls) == 2


def test_a_cut_follows_what_the_trace_has_learnt(monkeypatch):
    model, x = Pieces().eval(), torch.randn(1, 6)
    graph = tsd.trace(model, x)
    calls = counted_replays(monkeypatch)
    removed = {group.name: list(range(group.size // 2)) for group in graph.groups}
    small = tsd.cut(model, graph, removed, x)
    assert not small.put_back
    assert len(calls) == 1
    assert small.model.sizes == [6, 4, 3]
    assert model.sizes == [12, 7, 5]
    assert [(a.module, a.name, a.value) for a in small.attributes] == [("", "sizes", [6, 4, 3])]


def test_sizes_that_were_the_same_come_apart_place_by_place(monkeypatch):
    model, x = Pieces(6, 7, 7).eval(), torch.randn(1, 6)
    graph = tsd.trace(model, x)
    assert sorted(graph.widths.values()) == [6, 7, 7]
    names = [group.name for group in graph.groups if group.size == 7]
    for one, other in ((1, 4), (4, 1), (0, 3), (5, 0)):
        calls = counted_replays(monkeypatch)
        small = tsd.cut(model, graph, {names[0]: range(one), names[1]: range(other)}, x)
        assert not small.put_back
        sizes: Any = small.model.sizes
        assert sorted(sizes) == sorted((6, 7 - one, 7 - other))
        assert len(calls) == 1


class Windows(nn.Module):
    """Attention in windows whose number of heads, head size and side are one number, kept three times; the
    length of a window is left to the reshape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_size, self.head_size, self.num_heads = 4, 4, 4
        self.out_size = self.num_heads * self.head_size
        self.q, self.k, self.v = (nn.Conv2d(width, self.out_size, 1) for _ in range(3))
        self.last = nn.Conv2d(self.out_size, width, 1)

    def forward(self, x):
        batch, _, height, width = x.shape
        rows, columns = height // self.block_size, width // self.block_size
        shape = (-1, self.head_size, rows, self.block_size, columns, self.block_size)
        q, k, v = (
            layer(x)
            .reshape(shape)
            .permute(0, 1, 3, 5, 2, 4)
            .reshape(batch * self.num_heads, self.head_size, -1, rows * columns)
            .permute(0, 3, 2, 1)
            for layer in (self.q, self.k, self.v)
        )
        x = ((q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 3)
        x = x.reshape(-1, self.block_size, self.block_size, rows, columns).permute(0, 3, 1, 4, 2)
        return self.last(x.reshape(batch, self.out_size, height, width))


def test_one_number_in_many_places_and_modules_is_found_in_one_attempt(monkeypatch):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 1), *(Windows(6) for _ in range(12)), nn.Conv2d(6, 2, 1)]
    model, x = nn.Sequential(*layers).eval(), torch.randn(1, 3, 8, 8)
    calls = counted_replays(monkeypatch)
    graph = tsd.trace(model, x)
    assert sorted(group.size for group in graph.groups) == [4] * 12 + [6] * 13
    assert len(calls) <= 6
    small = tsd.cut(model, graph, {group.name: [1] for group in graph.groups}, x)
    assert not small.put_back
    assert (small.model[1].num_heads, small.model[1].head_size, small.model[1].out_size) == (3, 4, 12)


class Unread(Windows):
    """Numbers that are those of its heads, and that nothing reads."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.channels, self.levels = 16, (4, 16)


def test_numbers_that_no_forward_reads_are_left_alone():
    torch.manual_seed(0)
    model, x = (
        nn.Sequential(nn.Conv2d(3, 6, 1), Unread(6), nn.Conv2d(6, 2, 1)).eval(),
        torch.randn(1, 3, 8, 8),
    )
    graph = tsd.trace(model, x)
    read = {name for owner, name in graph.record.trace.read if owner == "1"}
    assert {"block_size", "head_size", "num_heads", "out_size"} <= read
    assert not {"channels", "levels"} & read
    small = tsd.cut(model, graph, {group.name: [1] for group in graph.groups}, x).model
    assert (small[1].num_heads, small[1].channels, small[1].levels) == (3, 16, (4, 16))
    assert "__getattribute__" not in vars(nn.Module)


class Ends(nn.Module):
    """A mask made from sizes, parted by slices that count from the end, is laid over the nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        mask = x.new_zeros(4)
        mask[:-2] = 1.0
        mask[-2:] = 2.0
        mask[-3:0] = 3.0
        return self.last(x) * mask.sum()


def test_slices_that_count_from_the_end_are_no_stale_sizes(monkeypatch):
    calls = counted_replays(monkeypatch)
    graph = tsd.trace(Ends().eval(), torch.randn(1, 6))
    assert graph.widths == {"first": 8}
    assert len(calls) == 1


class Stale(nn.Module):
    """A part whose heads are as many as a list of its owner says of something else, which the owner reads
    after it, and as one that it reads before."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.proj = 4, nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x.reshape(*x.shape[:2], self.num_heads, -1).softmax(-1).flatten(2))


class Owner(nn.Module):
    """Keeps the numbers of the parts whose outputs it joins, and the order of its axes."""

    def __init__(self) -> None:
        super().__init__()
        self.save, self.axes = [1, 3, 4], (0, 2, 1)
        self.parts = nn.ModuleList(nn.Linear(12, 12) if i != 2 else Stale() for i in range(5))
        self.stem, self.head = nn.Linear(6, 12), nn.Linear(36, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, kept = self.stem(x), []
        for number, part in enumerate(self.parts):
            x = part(x)
            if number in self.save:
                kept.append(x)
        return self.head(torch.cat(kept, 2).permute(self.axes).mean(2))


def test_lists_of_an_owner_are_not_taken_for_widths():
    torch.manual_seed(0)
    model, x = Owner().eval(), torch.randn(1, 5, 6)
    graph = tsd.trace(model, x)
    small = tsd.cut(model, graph, {group.name: [0] for group in graph.groups}, x)
    assert not small.put_back
    assert (small.model.save, small.model.axes, small.model.parts[2].num_heads) == ([1, 3, 4], (0, 2, 1), 3)
    assert graph.record.trace.read["", "axes"] > graph.record.trace.read["parts.2", "num_heads"]
