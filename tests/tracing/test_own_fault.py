"""Exceptions of this package are told as its own, those of the model as the model's."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tsdistill as tsd
from tsdistill.errors import TsdistillError
from tsdistill.runtime.forward import forward
from tsdistill.runtime.modes import OwnFault, run
from tsdistill.tracing import tracer
from tsdistill.tracing.cut_verification import reference
from tsdistill.tracing.labelled_run import record
from tsdistill.tracing.output_tolerance import STRICT, difference
from tsdistill.tracing.replay import _Replay, replay
from tsdistill.tracing.surgery import remove_coordinates, removed_mask
from tsdistill.tracing.tracer import Tracer

X = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))


def two_layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))


def fails(*_: object, **__: object) -> None:
    raise IndexError("list index out of range")


class Raising(nn.Module):
    """A model whose own code raises, by itself, in a property, or in an operator."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.layer, self.how = nn.Linear(6, 3), how

    @property
    def width(self) -> int:
        raise LookupError("no width")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "code":
            raise KeyError("mine")
        if self.how == "property":
            return self.layer(x)[: self.width]
        return self.layer(x.reshape(1, -1).reshape(7, 5) if self.how == "view" else torch.cat([x, x], 1))


@pytest.mark.parametrize("how", ["code", "property", "view", "operator"])
def test_what_a_model_raises_is_the_models(how):
    model = Raising(how)
    for attempt in (lambda: record(model, X), lambda: run(model, X), lambda: forward(model, X)):
        with pytest.raises(TsdistillError) as caught:
            attempt()
        assert not isinstance(caught.value, OwnFault)


def test_what_the_tracer_raises_is_its_own(monkeypatch):
    monkeypatch.setattr(Tracer, "is_data", fails)
    with pytest.raises(OwnFault, match=r"IndexError: .*\w+\.py:\d+"):
        record(two_layers(), X)


def test_a_group_is_not_put_back_with_the_models_name_to_a_fault_of_the_check(monkeypatch):
    model = two_layers()
    graph = tsd.trace(model, X)
    monkeypatch.setattr(_Replay, "next", fails)
    put_back = tsd.cut(model, graph, {"0": range(5)}, X).put_back
    assert [item.name for item in put_back] == ["0"]
    assert "tsdistill itself fails" in put_back[0].cause


def test_what_a_hook_raises_is_not_the_models():
    model = two_layers()
    code = "def hook(*_):\n    raise IndexError('hook')\n"
    names: dict = {}
    exec(compile(code, tracer.__file__, "exec"), names)
    model[0].register_forward_hook(names["hook"])
    with pytest.raises(OwnFault, match="IndexError: hook"):
        forward(model, X)


class Attention(nn.Module):
    """The size of a head is computed from the width of its keys, so it can shrink to one coordinate."""

    def __init__(self, dim: int = 8, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(6, dim) for _ in range(3))
        self.out = nn.Linear(dim, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (layer(x) for layer in (self.q, self.k, self.v))
        size = k.shape[-1] // self.heads
        q, k, v = (t.view(len(x), -1, self.heads, size).transpose(1, 2) for t in (q, k, v))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(len(x), -1, self.heads * size))


def test_heads_of_one_coordinate_are_cut():
    torch.manual_seed(0)
    model, data = Attention(), torch.randn(32, 5, 6)
    result = tsd.prune_result(
        model,
        data=data,
        budget={"params": 0.6},
        selection={"heads": "size", "min_nodes": 1},
        realignment={"realign": False},
    )
    assert not result.put_back
    assert result.model(data).shape == (32, 5, 3)


class Packed(nn.Module):
    """Sequences of several lengths through a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.lstm = nn.Linear(6, 12), nn.LSTM(12, 5, batch_first=True)
        self.hidden, self.out = nn.Linear(5, 14), nn.Linear(14, 3)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(self.enter(x), lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.out(torch.relu(self.hidden(y)))


def test_packed_sequences_leave_what_is_behind_them_free():
    torch.manual_seed(0)
    model, inputs = Packed().eval(), (torch.randn(2, 7, 6), torch.tensor([7, 4]))
    graph = tsd.trace(model, inputs)
    assert "hidden" in graph.by_name
    assert not any("fails" in item.cause for item in graph.frozen)
    assert graph.record is not None
    removed = {"hidden": torch.arange(6).numpy()}
    small, _ = remove_coordinates(model, graph, removed)
    after = replay(small, inputs, graph.record, removed_mask(graph, removed))
    assert after.clean
    assert (
        difference(
            list(after.output), reference(model, inputs, graph.record, removed_mask(graph, removed)), STRICT
        )
        is None
    )
