from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.networks import mlp, residual
from tsdistill.errors import TsdistillError
from tsdistill.pruning.selection import latency_model
from tsdistill.pruning.selection.cost_model import cost_model_of
from tsdistill.pruning.selection.latency_model import Key, fit, price_latency, profile
from tsdistill.runtime.latency import latency
from tsdistill.tracing import cut, trace

X = torch.zeros(1, 3, 8, 8)
evaluation_latency = import_module("tsdistill.runtime.latency")


class Clock:
    """Stands still but for what ``Late`` modules take."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Late(nn.Module):
    """Takes so many seconds a channel, and some."""

    def __init__(self, clock: Clock, seconds: float, always: float = 0.0) -> None:
        super().__init__()
        self.take = lambda channels: setattr(clock, "now", clock.now + always + seconds * channels)

    def forward(self, x: Tensor) -> Tensor:
        self.take(x.shape[1])
        return x


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (latency_model, evaluation_latency):
        monkeypatch.setattr(module, "time", clock)
    return clock


def waiting(clock: Clock) -> nn.Module:
    """After 6 s a convolution, followed by 2 s a channel and 5 s; then one followed by 1 s a channel."""
    layers = (
        *(Late(clock, 2), nn.Conv2d(3, 8, 1), Late(clock, 2, 5)),
        *(nn.Conv2d(8, 4, 1), Late(clock, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
    )
    return nn.Sequential(*layers).eval()


def test_time_goes_to_the_operation_that_it_follows(clock: Clock) -> None:
    model = waiting(clock)
    (found,) = profile([model], trace(model, X), X, repeats=3, max_seconds=5)
    assert {key: seconds for key, seconds in found.items() if seconds} == {
        ("", False): 6,
        ("1", False): 21,
        ("3", False): 4,
    }
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


class Within(nn.Module):
    """Multiplies two activations itself, after its layer."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.layer, self.late = nn.Conv2d(3, 3, 1), Late(clock, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.layer(x)) @ x


def test_what_a_block_computes_itself_is_timed_without_its_layers(clock: Clock) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Within(clock))
    (found,) = profile([model], trace(model, X), X, repeats=2, max_seconds=5)
    assert found["1", False] == 3
    assert {("1", True), ("1.layer", True), ("0", True)} <= set(found)


def test_what_follows_an_operation_is_priced_by_the_width_of_its_output(clock: Clock) -> None:
    model = waiting(clock)
    graph = trace(model, X)
    price = price_latency(model, graph, X, repeats=5)
    assert [term.name for term in graph.operations] == ["1", "3", "7"]
    assert price.seconds_per_output == pytest.approx((2, 1, 0))
    assert price.fixed == pytest.approx(6 + 5)
    assert price.value(graph) == pytest.approx(31)
    first, second = sorted(graph.widths, key=lambda name: -graph.widths[name])
    assert price.value(graph, {first: 2, second: 3}) == pytest.approx(31 - 12 - 1)


def _fitted(whole: dict[Key, float], small: dict[Key, float], measured: float, kept: int = 10) -> Any:
    model = mlp(5, 20, 4)
    graph = trace(model, torch.zeros(1, 5))
    outputs = tuple((0, 2) for _ in graph.operations)
    return graph, fit(graph, outputs, {"0": kept}, whole, small, measured)


def test_two_widths_tell_what_shrinks_from_what_is_always_there() -> None:
    whole = {("", False): 1.0, ("0", True): 5.0, ("0", False): 3.0, ("2", True): 2.0}
    small = {("", False): 1.0, ("0", True): 3.0, ("0", False): 2.5, ("2", True): 2.0}
    graph, price = _fitted(whole, small, 11.0)
    assert [term.value(graph.widths) * rate for term, rate in price.terms(graph)] == pytest.approx([4.0, 1.0])
    assert price.fixed == pytest.approx(6.0)
    assert price.value(graph) == pytest.approx(11.0)
    assert price.value(graph, {"0": 10}) == pytest.approx(8.5)
    assert price.value(graph, {"0": 5}) == pytest.approx(7.25)


def test_the_price_of_the_whole_is_what_was_measured_without_hooks() -> None:
    whole = {("0", True): 5.0, ("2", True): 2.0}
    graph, price = _fitted(whole, {("0", True): 1.0, ("2", True): 1.0}, 3.5)
    assert price.value(graph) == pytest.approx(3.5)


def test_noise_makes_nothing_cost_less_than_nothing() -> None:
    slower = {("0", True): 9.0, ("2", True): -1.0}
    graph, price = _fitted({("0", True): 5.0, ("2", True): 2.0}, slower, 7.0)
    assert price.seconds_per_mac[0] == 0
    assert price.value(graph, {"0": 1}) >= 0
    assert price.fixed >= 0


def test_a_meter_counts_in_seconds() -> None:
    graph, price = _fitted({("0", True): 5.0, ("2", True): 2.0}, {("0", True): 2.5, ("2", True): 2.0}, 7.0)
    cost_model = cost_model_of(graph, "latency", price)
    assert cost_model.total == pytest.approx(7.0)
    assert cost_model.saving({"0": 4}) == pytest.approx(1.0)


def test_the_price_holds_for_the_model_after_cuts_and_no_other() -> None:
    model = residual(width=16, inner=24)
    graph = trace(model, X)
    price = price_latency(model, graph, X, repeats=3)
    assert len(price.seconds_per_mac) == len(graph.operations)
    once = cut(model, graph, {group.name: [0, 1, 2] for group in graph.groups}, X).model
    kept = {name: size - 3 for name, size in graph.widths.items()}
    assert price.value(trace(once, X)) == pytest.approx(price.value(graph, kept))
    other = mlp(5, 20, 4)
    with pytest.raises(TsdistillError, match="price it again"):
        price.terms(trace(other, torch.zeros(1, 5)))


def test_transposed_convolutions_write_their_second_dimension() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ReLU(), nn.ConvTranspose2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1)
    )
    graph = trace(model.eval(), X)
    assert price_latency(model, graph, X, repeats=2).outputs == ((0,), (1,), (0,))


def test_it_predicts_what_a_cut_takes() -> None:
    model = nn.Sequential(
        *(nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4)),
    ).eval()
    x = torch.randn(1, 3, 48, 48)
    graph = trace(model, x)
    removed = {group.name: list(range(0, 64, 4)) + list(range(1, 64, 4)) for group in graph.groups}
    small = cut(model, graph, removed, x).model
    found = []
    for _ in range(5):  # medians, for on a machine with other work one measurement may come out as anything
        price = price_latency(model, graph, x)
        dense, less = latency([model, small], x, repeats=40)
        found.append((price.value(graph, dict.fromkeys(removed, 32)) / price.value(graph), less / dense))
    predicted, measured = np.median(found, 0)
    assert predicted == pytest.approx(measured, abs=0.25)
    assert predicted < 0.7
