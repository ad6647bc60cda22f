"""Activations that are made of parameters alone are nodes like others."""

import pytest
import torch
from torch import nn

import tsdistill as tsd
from tsdistill.tracing import cut, trace


class Styled(nn.Module):
    """Grows a picture from a learnt constant."""

    def __init__(self):
        super().__init__()
        self.constant = nn.Parameter(torch.randn(1, 14, 4, 4))
        self.grow, self.style, self.out = (
            nn.Conv2d(14, 10, 3, padding=1),
            nn.Linear(6, 10),
            nn.Conv2d(10, 3, 1),
        )

    def forward(self, x):
        h = torch.relu(self.grow(self.constant)) * self.style(x)[:, :, None, None]
        return self.out(torch.relu(h))


class Latents(nn.Module):
    """Learnt queries go through a block before they meet the input."""

    def __init__(self):
        super().__init__()
        self.latents, self.norm = nn.Parameter(torch.randn(5, 12)), nn.LayerNorm(12)
        self.up, self.down = nn.Linear(12, 18), nn.Linear(18, 12)
        self.read, self.values, self.out = nn.Linear(12, 7), nn.Linear(6, 9), nn.Linear(9, 3)

    def forward(self, x):
        q = self.latents + self.down(torch.relu(self.up(self.norm(self.latents))))
        weights = self.read(q).softmax(-1)
        return self.out(torch.relu(weights @ self.values(x)))


class Table(nn.Module):
    """A bias of positions comes from coordinates through a small network."""

    def __init__(self):
        super().__init__()
        self.register_buffer("places", torch.randn(9, 2))
        self.inner, self.heads = nn.Linear(2, 16), nn.Linear(16, 6)
        self.enter, self.out = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        bias = self.heads(torch.relu(self.inner(self.places)))
        return self.out(torch.relu(self.enter(x)[:, None] + bias))


CASES = [
    (Styled, (6,), {"constant": 14, "grow": 10}),
    (Latents, (7, 6), {"latents": 12, "up": 18, "values": 9}),
    (Table, (6,), {"inner": 16, "heads": 6}),
]


@pytest.mark.parametrize(("make", "shape", "widths"), CASES)
def test_their_widths_are_groups_and_are_cut(make, shape, widths):
    torch.manual_seed(0)
    model, x = make().eval(), torch.randn(1, *shape)
    graph = trace(model, x)
    assert graph.widths == widths
    removed = {name: range(size // 2) for name, size in widths.items()}
    assert not cut(model, graph, removed, x).put_back


@pytest.mark.parametrize(("make", "shape", "widths"), CASES)
def test_they_are_observed_and_pruned(make, shape, widths):
    torch.manual_seed(0)
    model = make().eval()
    result = tsd.prune_result(model, data=torch.randn(48, *shape), budget={"nodes": 0.6})
    assert all(group.observed for group in result.report.groups)
    assert not result.put_back
    assert result.after["nodes"] <= 0.6 * sum(widths.values())
