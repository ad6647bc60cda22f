"""Recurrent layers: packed sequences, state that goes in and out, state that a module keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tsdistill as tsd
from tests.tracing.networks import randomise
from tests.tracing.own import blanked, halved


class Packed(nn.Module):
    """Sequences of several lengths through a recurrent layer, each up to its own end."""

    def __init__(self, layer: Any, first: bool = True, **how: Any) -> None:
        super().__init__()
        self.table, self.enter = nn.Embedding(20, 9), nn.Linear(9, 12)
        self.layer = layer(12, 10, batch_first=first, **how)
        self.first = first
        self.hidden, self.end = nn.Linear(20 if how.get("bidirectional") else 10, 8), nn.Linear(8, 3)

    def forward(self, tokens, lengths):
        x = torch.relu(self.enter(self.table(tokens)))
        x = x if self.first else x.transpose(0, 1)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=self.first, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.layer(packed)[0], batch_first=True, total_length=tokens.shape[1])
        return self.end(torch.relu(self.hidden(y)))


EXAMPLE = {"tokens": torch.arange(7)[None], "lengths": torch.tensor([7])}
BATCH = {"tokens": torch.arange(28).reshape(4, 7) % 20, "lengths": torch.tensor([3, 7, 1, 5])}


@pytest.mark.parametrize(
    ("layer", "how"),
    [
        (nn.LSTM, {}),
        (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
        (nn.LSTM, {"first": False}),
        (nn.GRU, {"num_layers": 2}),
        (nn.GRU, {"bidirectional": True, "first": False}),
        (nn.RNN, {}),
    ],
)
def test_units_of_layers_over_packed_sequences_go(layer, how):
    torch.manual_seed(0)
    model = randomise(Packed(layer, **how))
    graph, done = halved(model, EXAMPLE)
    assert graph.widths == {"table": 9, "enter": 12, "layer.weight_ih_l0": 10, "hidden": 8}
    assert done.model.layer.hidden_size == 5
    wanted = blanked(model, graph, done.removed)
    with torch.no_grad():
        torch.testing.assert_close(done.model(**BATCH), wanted(**BATCH), rtol=1e-4, atol=1e-4)


class Streaming(nn.Module):
    """A state that the caller keeps from one call to the next."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.enter, self.layer, self.end = nn.Linear(5, 12), layer(12, 10, batch_first=True), nn.Linear(10, 3)

    def forward(self, x, state=None):
        y, state = self.layer(torch.relu(self.enter(x)), state)
        return self.end(y), state


@pytest.mark.parametrize(("layer", "state"), [(nn.GRU, 1), (nn.LSTM, 2)])
@pytest.mark.parametrize("given", [False, True])
def test_a_state_that_the_caller_keeps_stays_and_the_user_is_told(layer, state, given):
    model = randomise(Streaming(layer))
    states = tuple(torch.randn(1, 1, 10) for _ in range(state))
    whole = (torch.randn(1, 4, 5), states if state > 1 else states[0])
    graph, done = halved(model, whole if given else whole[0])
    assert graph.widths == {"enter": 12}
    causes = {item.name: item.cause for item in graph.frozen}
    assert "output" in causes["layer.weight_hh_l0"] or "no layer writes" in causes["layer.weight_hh_l0"]
    _, kept = done.model(*whole)
    done.model(whole[0], kept)


class Kept(nn.Module):
    """A state that the module itself keeps from one call to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.layer, self.end = (
            nn.Linear(5, 12),
            nn.GRU(12, 10, batch_first=True),
            nn.Linear(10, 3),
        )
        self.state: torch.Tensor | None = None

    def forward(self, x):
        y, state = self.layer(torch.relu(self.enter(x)), self.state)
        self.state = state.detach()
        return self.end(y)


def test_units_go_where_the_module_keeps_the_state():
    model, x = randomise(Kept()), torch.randn(1, 4, 5)
    graph, done = halved(model, x)
    assert graph.widths == {"enter": 12, "layer.weight_ih_l0": 10}
    small = done.model
    with torch.no_grad():
        first, second = small(x), small(x)
    assert small.state.shape == (1, 1, 5)
    assert not torch.equal(first, second)


class Fused(nn.Module):
    """A step of an LSTM, then one of a GRU, by the operators that accelerators run them with."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(5, 12)
        self.long, self.long_state = nn.Linear(12, 40, bias=False), nn.Linear(10, 40, bias=False)
        self.short, self.short_state = nn.Linear(10, 24, bias=False), nn.Linear(8, 24, bias=False)
        self.end = nn.Linear(8, 3)
        self.long_bias, self.short_bias = nn.Parameter(torch.randn(40)), nn.Parameter(torch.randn(24))

    def forward(self, x):
        x = torch.relu(self.enter(x))
        state = x.new_zeros(len(x), self.long_state.in_features)
        gates = self.long(x), self.long_state(state)
        x = torch.ops.aten._thnn_fused_lstm_cell(*gates, state, self.long_bias, self.long_bias)[0]
        state = x.new_zeros(len(x), self.short_state.in_features)
        gates = self.short(x), self.short_state(state)
        x = torch.ops.aten._thnn_fused_gru_cell(*gates, state, self.short_bias, self.short_bias)[0]
        return self.end(x)


def _lstm_cell(one, other, cell, bias=None, more=None):
    enter, forget, new, leave = (one + other + bias + more).chunk(4, 1)
    cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
    return leave.sigmoid() * cell.tanh(), cell, one.clone()


def _gru_cell(one, other, state, bias=None, more=None):
    (a, b, c), (d, e, f) = (one + bias).chunk(3, 1), (other + more).chunk(3, 1)
    update = (b + e).sigmoid()
    return (c + (a + d).sigmoid() * f).tanh() * (1 - update) + state * update, one.clone()


def test_fused_cells_of_accelerators_are_cut_by_units():
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("_thnn_fused_lstm_cell", _lstm_cell, "CPU")
        library.impl("_thnn_fused_gru_cell", _gru_cell, "CPU")
        graph, done = halved(randomise(Fused()), torch.randn(1, 5))
        assert graph.widths == {"enter": 12, "long": 10, "short": 8}
        assert done.model.long.weight.shape == (20, 6)


@pytest.mark.parametrize(
    ("layer", "how"),
    [
        (nn.LSTM, {"bidirectional": True}),
        (nn.GRU, {"first": False}),
        (nn.RNN, {"num_layers": 2}),
    ],
)
def test_a_recurrent_layer_takes_over_what_it_reads_of_copies(layer, how):
    torch.manual_seed(0)
    model = randomise(Packed(layer, **how))
    with torch.no_grad():
        model.enter.bias.fill_(1.0)
        for each in (model.enter.weight, model.enter.bias):
            each[6:] = 2 * each[:6]
    data = [{"tokens": torch.randint(0, 20, (4, 7)), "lengths": torch.tensor([3, 7, 1, 5])} for _ in range(8)]
    done = tsd.prune_result(model, data=data, budget="lossless", inputs={"example_input": EXAMPLE})
    assert done.model.enter.out_features == done.model.layer.input_size == 6
    with torch.no_grad():
        torch.testing.assert_close(done.model(**BATCH), model(**BATCH), rtol=1e-4, atol=1e-4)


class Stepped(nn.Module):
    """A cell that code runs step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.cell, self.end = nn.Linear(5, 12), nn.GRUCell(12, 10), nn.Linear(10, 3)

    def forward(self, x):
        state = x.new_zeros(len(x), self.cell.hidden_size)
        for step in torch.relu(self.enter(x)).unbind(1):
            state = self.cell(step, state)
        return self.end(state)


def test_what_a_cell_reads_is_observed():
    torch.manual_seed(0)
    report = tsd.analyze(randomise(Stepped()), data=torch.randn(64, 4, 5))
    assert {group.name: group.observed for group in report.groups} == {"enter": True, "cell.weight_ih": True}
