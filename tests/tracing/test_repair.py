"""Shape constants that modules keep: how many replays they cost, and several in one attribute."""

import torch
from torch import nn

import tsdistill as tsd
from tsdistill.tracing import repair


class Pieces(nn.Module):
    """Three pieces of different sizes, the sizes kept in one attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = [12, 7, 5]
        self.first = nn.Linear(6, sum(self.sizes))
        self.each = nn.ModuleList(nn.Linear(size, 4) for size in self.sizes)

    def forward(self, x):
        pieces = self.first(x).split(self.sizes, dim=-1)
        return sum(layer(torch.relu(piece)) for layer, piece in zip(self.each, pieces, strict=True))


def _counted(monkeypatch):
    calls = []

    def counting(*args):
        calls.append(args)
        return original(*args)

    original = repair.replay
    monkeypatch.setattr(repair, "replay", counting)
    return calls


def test_all_numbers_of_an_attribute_change_at_once(monkeypatch):
    model, x = Pieces().eval(), torch.randn(1, 6)
    calls = _counted(monkeypatch)
    graph = tsd.trace(model, x)
    assert sorted(group.size for group in graph.groups) == [5, 7, 12]
    assert len(calls) == 2


def test_a_cut_follows_what_the_trace_has_learnt(monkeypatch):
    model, x = Pieces().eval(), torch.randn(1, 6)
    graph = tsd.trace(model, x)
    calls = _counted(monkeypatch)
    removed = {group.name: list(range(group.size // 2)) for group in graph.groups}
    small = tsd.cut(model, graph, removed, x)
    assert not small.put_back
    assert len(calls) == 1
    assert small.model.sizes == [6, 4, 3]
    assert model.sizes == [12, 7, 5]
    assert [(a.module, a.name, a.value) for a in small.attributes] == [("", "sizes", [6, 4, 3])]
