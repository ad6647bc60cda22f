"""Checks of widths in Python code: the attribute that a check compares gets the new width."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import tsdistill as tsd
from tests.tracing.networks import randomise
from tests.tracing.own import counted_replays, halved


class Asserting(nn.Module):
    """Checks what comes in and what goes out, as upsamplers of diffusion models do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = self.out_channels = width
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        assert x.shape[1] == self.channels, f"{self.out_channels} {self.channels}"
        x = self.conv(x)
        if x.size(1) != self.out_channels:
            raise ValueError("another width")
        return torch.relu(x)


class ReadBefore(Asserting):
    """The number is read several operators before the check."""

    def forward(self, x):
        expected = self.channels
        batch, channels = x.shape[:2]
        y = torch.relu(self.conv(torch.sigmoid(x).tanh().sin()))
        if channels != expected:
            raise RuntimeError(f"{batch} x {channels}")
        return y


class InARow(Asserting):
    """The number is one of a row."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.sizes = (width, 7)

    def forward(self, x):
        assert x.shape[1] in self.sizes
        return torch.relu(self.conv(x))


class InTheCode(Asserting):
    """No attribute holds the width."""

    def forward(self, x):
        assert x.shape[1] == 12
        return torch.relu(self.conv(x))


IMAGE = torch.randn(1, 3, 6, 6)


def network(kind: type[nn.Module], depth: int = 2) -> nn.Module:
    torch.manual_seed(0)
    stem = [nn.Conv2d(3, 12, 3, padding=1), nn.ReLU()]
    return randomise(nn.Sequential(*stem, *(kind(12) for _ in range(depth)), nn.Conv2d(12, 2, 1)))


@pytest.mark.parametrize("kind", [Asserting, ReadBefore, InARow])
def test_widths_that_the_code_checks_go(kind):
    model = network(kind)
    graph, done = halved(model, IMAGE)
    assert graph.widths == {"0": 12, "2.conv": 12, "3.conv": 12}
    assert done.model(torch.randn(2, 3, 9, 7)).shape == (2, 2, 9, 7)


def test_the_next_cut_sets_what_a_check_compares_at_once(monkeypatch):
    model = network(Asserting, depth=5)
    graph = tsd.trace(model, IMAGE)
    calls = counted_replays(monkeypatch)
    removed = {group.name: range(2 + number) for number, group in enumerate(graph.groups)}
    done = tsd.cut(model, graph, removed, IMAGE)
    assert not done.put_back
    assert len(calls) == 1
    blocks: Any = list(done.model.children())[2:-1]
    widths = [(block.channels, block.out_channels) for block in blocks]
    assert widths == [(10, 9), (9, 8), (8, 7), (7, 6), (6, 5)]


def test_what_the_code_itself_fixes_stays_and_is_told():
    graph = tsd.trace(network(InTheCode), IMAGE)
    assert graph.widths == {"3.conv": 12}
    assert "AssertionError" in {item.name: item.cause for item in graph.frozen}["0"]


def test_a_check_of_the_input_keeps_its_number():
    class Entered(Asserting):
        def __init__(self, width):
            super().__init__(width)
            self.taken = 3

        def forward(self, x):
            assert x.shape[1] == self.taken
            return super().forward(self.stem(x))

    model = Entered(12)
    model.stem = nn.Conv2d(3, 12, 1)
    whole = randomise(nn.Sequential(model, nn.Conv2d(12, 2, 1)))
    _, done = halved(whole, IMAGE)
    assert done.model[0].taken == 3
    assert done.model[0].channels == 6
