"""Networks on graphs: messages along edges are gathered by number, and all widths beside that go."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

import tsdistill as tsd
from tests.tracing.networks import randomise
from tests.tracing.own import blanked, halved

WAYS = ("index_add", "scatter_add", "scatter_reduce", "index_reduce", "segment_reduce")


def gathered(x: Tensor, at: Tensor, count: int, way: str) -> Tensor:
    """Rows of ``x`` summed (or their largest taken) where ``at`` says, ``[count, ...]``."""
    made = x.new_zeros(count, *x.shape[1:])
    wide = at.view(-1, *[1] * (x.ndim - 1)).expand_as(x)
    if way == "index_add":
        return made.index_add_(0, at, x)
    if way == "scatter_add":
        return made.scatter_add_(0, wide, x)
    if way == "scatter_reduce":
        return made.scatter_reduce_(0, wide, x, "amax", include_self=False)
    if way == "index_reduce":
        return made.index_reduce_(0, at, x, "mean")
    order = at.argsort(stable=True)
    lengths = torch.bincount(at, minlength=count)
    return torch.segment_reduce(x[order], "sum", lengths=lengths, axis=0, unsafe=True)


class Convolved(nn.Module):
    """Two layers of messages, a norm between them, one vector a graph at the end."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.a, self.norm, self.b = nn.Linear(5, 12), nn.BatchNorm1d(12), nn.Linear(12, 8)
        self.own, self.end = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        x = torch.relu(self.norm(gathered(self.a(x)[edges[0]], edges[1], len(x), self.way)))
        x = torch.relu(self.b(gathered(x[edges[0]], edges[1], len(x), self.way)) + self.own(x))
        return self.end(gathered(x, x.new_zeros(len(x), dtype=torch.long), 1, self.way))


class Attending(nn.Module):
    """Attention over the edges that reach a node, in heads."""

    def __init__(self, entered: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        self.lift = nn.Linear(entered, heads * size, bias=False)
        self.sent = nn.Parameter(torch.randn(1, heads, size))
        self.got = nn.Parameter(torch.randn(1, heads, size))
        self.bias = nn.Parameter(torch.randn(heads * size))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        one, other = edges
        x = self.lift(x).view(-1, self.heads, self.size)
        logits = ((x * self.sent).sum(-1)[one] + (x * self.got).sum(-1)[other]).relu()
        top = gathered(logits, other, len(x), "scatter_reduce")[other]
        weights = (logits - top).exp()
        weights = weights / (gathered(weights, other, len(x), "scatter_add")[other] + 1e-9)
        x = gathered(x[one] * weights[..., None], other, len(x), "scatter_add")
        return x.view(-1, self.heads * self.size) + self.bias


class Attended(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.end = Attending(5, 3, 6), Attending(18, 2, 6), nn.Linear(12, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return self.end(torch.relu(self.b(torch.relu(self.a(x, edges)), edges)))


def graph(nodes: int, seed: int) -> dict[str, Tensor]:
    """Features of nodes, and edges of which every node gets one."""
    made = torch.Generator().manual_seed(seed)
    ring = torch.stack([torch.arange(nodes), (torch.arange(nodes) + 1) % nodes])
    more = torch.randint(0, nodes, (2, nodes), generator=made)
    return {"x": torch.randn(nodes, 5, generator=made), "edges": torch.cat([ring, more], 1)}


def same_as_zeroed(model: nn.Module, done: Any, found: Any, x: Any) -> None:
    wanted = blanked(model, found, done.removed)
    with torch.no_grad():
        torch.testing.assert_close(done.model(**x), wanted(**x), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:index_reduce")
@pytest.mark.parametrize("way", WAYS)
def test_widths_of_messages_go(way):
    torch.manual_seed(0)
    model = randomise(Convolved(way)).eval()
    found, done = halved(model, graph(9, 0))
    assert found.widths == {"a": 12, "b": 8}
    same_as_zeroed(model, done, found, graph(14, 1))


def test_heads_of_attention_over_edges_are_cut_and_another_graph_works():
    torch.manual_seed(0)
    model = randomise(Attended())
    found, done = halved(model, graph(9, 0))
    assert set(found.widths) == {"a.lift", "b.lift"}
    assert (done.model.a.heads * done.model.a.size, done.model.b.heads * done.model.b.size) == (9, 6)
    same_as_zeroed(model, done, found, graph(14, 1))


def test_a_network_on_graphs_is_pruned_by_its_data():
    torch.manual_seed(0)
    data = [graph(9, seed) for seed in range(4)]
    done = tsd.prune_result(
        randomise(Attended()), data=data, budget={"params": 0.6}, inputs={"example_input": data[0]}
    )
    assert not done.put_back
    assert done.after["params"] <= 0.6 * done.before["params"]


class Codes(nn.Module):
    """Vectors weighed by how far they are from those of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.codes, self.end = nn.Linear(5, 9), nn.Parameter(torch.randn(30, 9)), nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return self.end((-torch.cdist(x, self.codes)).softmax(-1) @ self.codes)


@pytest.mark.parametrize("count", [4, 40])
def test_coordinates_of_distances_go(count):
    torch.manual_seed(0)
    model = randomise(Codes())
    found, done = halved(model, torch.randn(1, count, 5))
    assert found.widths == {"enter": 9}
    wanted = blanked(model, found, done.removed)
    x = torch.randn(2, 7, 5)
    with torch.no_grad():
        torch.testing.assert_close(done.model(x), wanted(x), rtol=1e-4, atol=1e-4)


class Moved(nn.Module):
    """A convolution whose taps are moved by another one."""

    def __init__(self, groups: int, moved: int) -> None:
        super().__init__()
        self.a, self.end = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.offset, self.mask = nn.Conv2d(12, 18 * moved, 3, padding=1), nn.Conv2d(12, 9 * moved, 1)
        self.conv = DeformConv2d(12, 8, 3, padding=1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        return self.end(torch.relu(self.conv(x, self.offset(x), self.mask(x).sigmoid())))


@pytest.mark.parametrize(("groups", "moved", "sizes"), [(1, 1, (12, 8)), (2, 1, (6, 4)), (1, 3, (4, 8))])
def test_channels_of_a_deformable_convolution_go(groups, moved, sizes):
    torch.manual_seed(0)
    model, x = randomise(Moved(groups, moved)), torch.randn(1, 3, 8, 8)
    found, done = halved(model, x)
    assert found.widths == {"a": sizes[0], "conv": sizes[1]}
    small = done.model.conv
    assert (small.in_channels, small.out_channels, small.groups) == (6, 4, groups)
    wanted = blanked(model, found, done.removed)
    with torch.no_grad():
        torch.testing.assert_close(done.model(x), wanted(x), rtol=1e-4, atol=1e-4)


class Linear(nn.Module):
    """Another library's linear layer."""

    def __init__(self, entered: int, left: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = entered, left
        self.weight, self.bias = nn.Parameter(torch.randn(left, entered)), nn.Parameter(torch.randn(left))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


def test_what_a_linear_layer_of_another_library_reads_is_observed():
    torch.manual_seed(0)
    model = randomise(nn.Sequential(Linear(5, 12), nn.ReLU(), Linear(12, 8), nn.ReLU(), Linear(8, 3)))
    done = tsd.prune_result(
        model, data=torch.randn(64, 5), budget={"params": 0.5}, inputs={"example_input": torch.randn(1, 5)}
    )
    assert not done.notes
    layers: list[Any] = list(done.model.children())[::2]
    assert all((each.out_channels, each.in_channels) == each.weight.shape for each in layers)
    assert done.after["params"] <= 0.5 * done.before["params"]
