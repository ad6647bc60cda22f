"""Budgets on any cost that is registered, and on peak memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tsdistill.alignment import analyze
from tsdistill.errors import TsdistillError
from tsdistill.plugins import Registry, hookimpl, manager
from tsdistill.pruning import plan, prune_result
from tsdistill.pruning.selection.budget import Budget, amount, budget_of
from tsdistill.pruning.selection.cost import Amounts
from tsdistill.runtime.memory import peak_memory


class Energy:
    """Joules of a forward pass: multiply-accumulates and the weights that are fetched."""

    amounts = Amounts("energy", {"j": 1.0, "mj": 1e-3, "uj": 1e-6}, ("J", "mJ", "uJ"), "3mJ")

    def terms(self, graph):
        yield from ((term, 4.6e-12) for term in graph.operations)
        yield from ((term, 640e-12) for term in graph.sizes)


class Plugin:
    @hookimpl
    def register_costs(self, register):
        register("energy", Energy())


@pytest.fixture
def energy(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = SimpleNamespace(name="energy", value="energy", dist=None, load=Plugin)
    monkeypatch.setattr(manager, "entry_points", lambda group: [entry] if group == "tsdistill" else [])
    registry = Registry()
    monkeypatch.setattr(manager, "registry", lambda: registry)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
        nn.Conv2d(24, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("budget", [0.5, "50%"])
def test_a_cost_of_a_plugin_is_a_budget(energy: None, budget: float | str) -> None:
    report = analyze(network(), data=torch.randn(40, 3, 16, 16))
    graph = report.graph

    def joules(kept: dict[str, int]) -> float:
        return 4.6e-12 * graph.macs(kept) + 640e-12 * graph.params(kept)

    made = plan(report, budget={"energy": budget})
    kept = {name: group.size - len(group.removed) for name, group in made.groups.items()}
    assert 0.4 * joules({}) < joules(kept) <= 0.5 * joules({})
    assert "0.5 of the energy" in made.budget
    half = plan(report, budget={"energy": f"{5e5 * joules({}):.9g}uJ"})
    assert half.groups == made.groups


def test_amounts_of_a_plugin_s_cost_are_read_and_shown(energy: None) -> None:
    assert budget_of(energy="3mJ") == Budget("energy", limit=0.003)
    assert amount("energy", 0.003) == "3mJ of energy"
    with pytest.raises(TsdistillError, match="3mJ"):
        budget_of(energy="3MB")
    with pytest.raises(TsdistillError, match="energy"):
        budget_of(enery=0.5)


@pytest.mark.parametrize(
    ("text", "limit"), [("200MB", 200e6), ("1.5 GiB", 1.5 * 2**30), ("64kB", 64e3), ("9b", 9.0)]
)
def test_memory_is_read_with_its_unit(text: str, limit: float) -> None:
    assert budget_of(memory=text) == Budget("memory", limit=limit)


def test_memory_is_shown_as_it_is_read() -> None:
    assert amount("memory", 200e6) == "200MB of peak memory"
    with pytest.raises(TsdistillError, match="200MB"):
        budget_of(memory=200)


@pytest.mark.parametrize("part", [0.7, 0.5])
def test_a_budget_of_memory_is_measured_and_met(part: float) -> None:
    model, x = network(), torch.randn(40, 3, 16, 16)
    result = prune_result(
        model,
        data=x,
        budget={"memory": part},
        realignment={"realign": False},
    )
    whole, left = (peak_memory(each, x[:1]) for each in (model, result.model))
    assert 0.85 * part * whole < left < 1.06 * part * whole
    asked = prune_result(
        model, data=x, budget={"memory": f"{part * whole / 1e3}kB"}, realignment={"realign": False}
    )
    assert abs(peak_memory(asked.model, x[:1]) - left) <= 0.06 * whole


def test_memory_below_what_can_be_had_is_refused() -> None:
    with pytest.raises(TsdistillError):
        prune_result(
            network(),
            data=torch.randn(40, 3, 16, 16),
            budget={"memory": "1kB"},
            realignment={"realign": False},
        )
    with pytest.raises(TsdistillError, match="contradict"):
        prune_result(network(), data=torch.randn(40, 3, 16, 16), budget={"memory": 0.5}, macs=0.5)
