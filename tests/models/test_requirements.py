"""Models that cannot be run or looked into are refused in one line; scripted parts stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import tsdistill as tsd
from tsdistill.errors import TsdistillError
from tsdistill.models.requirements import check_open, check_runnable

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return plain()


def partly_on_meta() -> nn.Module:
    model = plain()
    model[2] = model[2].to("meta")
    return model


def sparse() -> nn.Module:
    model = plain()
    model[2].weight = nn.Parameter(model[2].weight.detach().to_sparse())
    return model


def sparse_buffer() -> nn.Module:
    model = plain()
    model.register_buffer("table", torch.eye(3).to_sparse_csr())
    return model


def compiled_part() -> nn.Module:
    model = plain()
    model[2] = cast(nn.Module, torch.compile(model[2], backend="eager"))
    return model


def compiled_in_place() -> nn.Module:
    model = plain()
    model.compile(backend="eager")
    return model


NEVER = {
    "lazy": (
        lambda: nn.Sequential(nn.LazyLinear(12), nn.LazyBatchNorm1d(), nn.ReLU(), nn.Linear(12, 3)),
        "lazy layers, the shape of 0.weight",
    ),
    "meta": (on_meta, "0.weight is on the meta device"),
    "partly on meta": (partly_on_meta, "2.weight is on the meta device"),
    "weights": (lambda: plain().state_dict(), "is a OrderedDict, not a module; load its weights"),
    "function": (lambda: torch.relu, "not a module; give a torch.nn.Module"),
}
CLOSED = {
    "scripted": (lambda: torch.jit.script(plain()), "scripted as a whole"),
    "traced": (lambda: torch.jit.trace(plain(), X), "scripted as a whole"),
    "exported": (lambda: torch.export.export(plain(), (X,)).module(), "exported program"),
    "compiled": (lambda: torch.compile(plain(), backend="eager"), "model|student is compiled"),
    "compiled part": (compiled_part, "has a compiled module, 2"),
    "compiled in place": (compiled_in_place, "is compiled"),
    "sparse": (sparse, r"holds a sparse tensor, 2.weight \(torch.sparse_coo\)"),
    "sparse buffer": (sparse_buffer, r"holds a sparse tensor, table \(torch.sparse_csr\)"),
}
CALLS: dict[str, Callable[[Any], Any]] = {
    "trace": lambda model: tsd.trace(model, X[:1]),
    "analyze": lambda model: tsd.analyze(model, data=X),
    "prune": lambda model: tsd.prune(model, data=X, budget={"params": 0.5}),
    "distill": lambda model: tsd.distill(model, plain(), data=[X], options={"epochs": 1, "loss": "mse"}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", [*CALLS, "compare", "evaluate"])
@pytest.mark.parametrize("kind", [*NEVER, *CLOSED])
def test_every_command_refuses_in_one_line(kind, call):
    make, message = {**NEVER, **CLOSED}[kind]
    calls = {
        **CALLS,
        "compare": lambda model: tsd.compare([model], data=X, brief=True),
        "evaluate": lambda model: tsd.evaluate(model, data=(X, X[:, 0]), judging=["mse"]),
    }
    if kind in CLOSED and call in ("compare", "evaluate"):
        return
    with pytest.raises(TsdistillError, match=message) as caught:
        calls[call](make())
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_model_is_compared():
    model = torch.jit.script(plain())
    check_runnable(model)
    assert tsd.compare([plain(), model], data=X, brief=True).params[0] == 215


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(8, 10), nn.Linear(10, 3)
        self.gate = torch.jit.script(nn.Sequential(nn.Linear(12, 8), nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(self.gate(torch.relu(self.a(x))))))


@pytest.mark.filterwarnings("ignore")
def test_scripted_parts_stay_whole_and_are_named(tmp_path):
    torch.manual_seed(0)
    model = Part().eval()
    check_open(model)
    graph = tsd.trace(model, X[:1])
    assert graph.widths == {"b": 10}
    assert {item.name for item in graph.frozen if "gate, which is scripted" in item.cause} == {"a", "gate.0"}
    result = tsd.prune_result(model, data=X, budget={"nodes": 0.6})
    assert not result.put_back
    assert result.after["nodes"] == 6
    assert result.model(X).shape == (16, 3)
    tsd.save(result.model, tmp_path / "small.safetensors", arch=f"{__file__}:Part")
    assert torch.equal(tsd.load(tmp_path / "small.safetensors", arch=f"{__file__}:Part")(X), result.model(X))
