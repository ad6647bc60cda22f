"""Single structures, what is left whole and why, and bad input."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.tracing.networks import zeroed
from tsdistill.errors import TsdistillError
from tsdistill.tracing import cut, trace


def two_layers(hidden: int = 6) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3))


X = torch.randn(1, 4)


def test_a_two_layer_network_has_one_group():
    graph = trace(two_layers(), X)
    (group,) = graph.groups
    assert (group.name, group.size, group.writers) == ("0", 6, ("0.weight",))
    assert [(slot.param, slot.dim) for slot in group.slots] == [
        ("0.weight", 0),
        ("0.bias", 0),
        ("2.weight", 1),
    ]
    (reader,) = group.readers
    assert (reader.module, reader.param, reader.dim, reader.channel_dim) == ("2", "2.weight", 1, -1)
    assert reader.coords[:, 0].tolist() == list(range(6))
    assert [item.name for item in graph.frozen] == ["2"]
    assert "output" in graph.frozen[0].cause
    assert (graph.macs(), graph.macs({"0": 2})) == (4 * 6 + 6 * 3, 4 * 2 + 2 * 3)
    assert graph.params({"0": 2}) == 4 * 2 + 2 + 2 * 3 + 3


def test_flattened_positions_belong_to_their_channel():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(3 * 4, 2))
    graph = trace(model, torch.randn(1, 1, 4, 4))
    (group,) = graph.groups
    assert group.readers[0].coords.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 16)
        self.place = nn.Parameter(torch.randn(1, 5, 16))
        layer = nn.TransformerEncoderLayer(16, 4, dim_feedforward=24, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.fc = nn.Linear(16, 2)

    def forward(self, tokens):
        return self.fc(self.layers(self.embed(tokens) + self.place).mean(1))


def test_the_fast_path_of_torchs_transformer_hides_nothing():
    model = Transformer().eval()
    tokens = torch.arange(5)[None]
    graph = trace(model, tokens)
    hidden = [group for group in graph.groups if group.size == 24]
    assert len(hidden) == 2
    removed = {group.name: list(range(10)) for group in hidden}
    small = cut(model, graph, removed, tokens).model
    with torch.no_grad():
        torch.testing.assert_close(small(tokens), zeroed(model, graph, removed)(tokens), rtol=1e-4, atol=1e-5)


class Twice(nn.Module):
    """One layer called twice, one weight used by two layers."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(4, 8)
        self.shared = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.shared.weight
        self.leave = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.enter(x))
        x = F.relu(self.shared(x))
        return self.leave(F.relu(self.tied(F.relu(self.shared(x)))))


def test_shared_modules_and_tied_weights_stay_shared():
    model = Twice()
    graph = trace(model, X)
    (group,) = graph.groups
    assert group.size == 8
    removed = {group.name: [1, 5]}
    small = cut(model, graph, removed, X).model
    assert small.tied.weight is small.shared.weight
    assert small.shared.weight.shape == (6, 6)
    with torch.no_grad():
        torch.testing.assert_close(small(X), zeroed(model, graph, removed)(X))


class Literal(nn.Module):
    """A width written into the code: no attribute can mend it."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(4, 12)
        self.hidden = nn.Linear(12, 10)
        self.leave = nn.Linear(10, 3)

    def forward(self, x):
        x = F.relu(self.enter(x)).reshape(-1, 3, 4).transpose(1, 2).reshape(-1, 12)
        return self.leave(F.relu(self.hidden(x)))


def test_what_cannot_be_mended_is_left_whole_and_named():
    graph = trace(Literal(), X)
    assert [group.name for group in graph.groups] == ["hidden"]
    (left,) = [item for item in graph.frozen if item.name == "enter"]
    assert "where the cut has" in left.cause


class Fooled(nn.Module):
    """Its output depends on the width in a way that no trace shows."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(4, 8), nn.Linear(8, 3)
        self.other, self.out = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        hidden = self.enter(x)
        return self.leave(hidden * hidden.shape[-1]) + self.out(F.relu(self.other(x)))


def test_a_group_whose_cut_computes_something_else_is_found_among_others():
    graph = trace(Fooled(), X)
    assert [group.name for group in graph.groups] == ["other"]
    assert any(item.name == "enter" and "differs" in item.cause for item in graph.frozen)


class ChannelNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelsLast(nn.Module):
    """A convolution reads a tensor whose channels lie last in memory, which pooling treats otherwise."""

    def __init__(self):
        super().__init__()
        self.enter, self.inner = nn.Linear(4, 8), nn.Conv2d(8, 8, 1)
        self.pool, self.norm, self.leave = nn.AdaptiveAvgPool2d(1), ChannelNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.inner(F.relu(self.enter(x)).permute(0, 3, 1, 2))
        return self.leave(self.norm(self.pool(x)).flatten(1))


def test_the_order_of_dimensions_in_memory_does_not_keep_a_width_from_being_cut():
    torch.manual_seed(0)
    graph = trace(ChannelsLast().eval(), torch.randn(1, 2, 2, 4))
    assert [group.name for group in graph.groups] == ["enter", "inner"]


def test_a_group_that_fails_at_the_cut_is_put_back():
    model = Fooled()
    graph = trace(model, X, check=False)
    assert len(graph.groups) == 2
    result = cut(model, graph, {"enter": [0], "other": [0, 1]}, X)
    assert [item.name for item in result.put_back] == ["enter"]
    assert list(result.removed) == ["other"]
    assert result.model.enter.out_features == 8
    assert result.model.other.out_features == 6


class Chaotic(nn.Module):
    """Two layers, and a map behind them that doubles every difference thirty times."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 500), nn.Linear(500, 40)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.sigmoid(self.outer(torch.relu(self.inner(x))))
        for _ in range(30):
            y = 3.99 * y * (1 - y)
        return y


def test_rounding_that_a_network_blows_up_is_no_fault():
    torch.manual_seed(0)
    model = Chaotic()
    graph = trace(model, X)
    (group,) = graph.groups
    removed = {group.name: torch.randperm(500)[:237].numpy()}
    done = cut(model, graph, removed, X)
    assert done.put_back == ()
    assert done.model.inner.weight.dtype == torch.float32
    small, zero = done.model, zeroed(model, graph, removed)
    torch.testing.assert_close(small.double()(X.double()), zero.double()(X.double()), atol=1e-4, rtol=0)


def test_attributes_that_had_to_change_are_recorded():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1))
    x = torch.randn(1, 3, 5, 5)
    graph = trace(model, x)
    result = cut(model, graph, {"0": [0, 3]}, x)
    assert [(a.module, a.name, a.value) for a in result.attributes] == [("1", "groups", 6)]
    assert (result.model[1].in_channels, result.model[0].out_channels) == (6, 6)
    assert model[1].groups == 8


def test_layouts_and_dtypes_survive():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).double()
    model = model.to(memory_format=torch.channels_last)
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    small = cut(model, trace(model, x), {"0": [1]}, x).model
    assert small[2].weight.dtype == torch.float64
    assert small[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert small[0].weight.requires_grad


def test_keyword_inputs_and_dict_outputs():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, *, x, scale):
            return {"y": self.b(F.relu(self.a(x))) * scale, "x": (x,)}

    graph = trace(Model(), {"x": X, "scale": torch.ones(1)})
    assert [group.name for group in graph.groups] == ["a"]


def test_a_model_without_anything_to_cut():
    graph = trace(nn.Linear(4, 3), X)
    assert graph.groups == ()
    assert graph.macs() == 12


def test_the_cause_of_a_failing_forward_in_one_line():
    with pytest.raises(TsdistillError, match="RuntimeError") as caught:
        trace(two_layers(), torch.randn(1, 5))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ({"nowhere": [0]}, "'nowhere'.* 0$"),
        ({"0": [6]}, "group 0 .* 5, not 6"),
        ({"0": [-1]}, "group 0 .* 5, not -1"),
        ({"0": range(6)}, "group 0 .* 6 nodes"),
    ],
)
def test_cuts_that_cannot_be(removed, message):
    model = two_layers()
    with pytest.raises(TsdistillError, match=message):
        cut(model, trace(model, X), removed, X)


def test_a_graph_without_its_trace_is_traced_again():
    from dataclasses import replace

    model = two_layers()
    graph = replace(trace(model, X), record=None)
    small = cut(model, graph, {"0": np.array([2])}, X).model
    assert small[0].out_features == 5
    with pytest.raises(TsdistillError, match="group 0 of 6 nodes"):
        cut(two_layers(7), graph, {"0": [2]}, X)
