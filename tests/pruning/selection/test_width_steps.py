from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.pruning.selection.test_greedy import _elimination, _graph
from tsdistill.pruning.selection.constraints import limits_of
from tsdistill.pruning.selection.cost_model import Meter, meter_of
from tsdistill.pruning.selection.greedy import orders, select
from tsdistill.pruning.selection.width_steps import round_off


def _rounded(sizes: dict[str, int], costs: dict[str, np.ndarray], part: float, step: int) -> Meter:
    graph = _graph(**sizes)
    limits = limits_of(graph, round_to=step, min_nodes=1)
    lists = [_elimination(name, costs[name][: sizes[name] - limits.floors[name]].tolist()) for name in sizes]
    meter = meter_of(graph, "macs")
    limit = part * meter.total
    select(meter, lists, limit)
    round_off(meter, orders(lists), limits, limit)
    assert meter.total <= limit
    for name, kept in meter.kept.items():
        assert kept == sizes[name] or (kept % limits.steps[name] == 0 and kept >= limits.floors[name])
    return meter


def _spent(meter: Meter, costs: dict[str, np.ndarray]) -> float:
    return sum(float(costs[name][:gone].sum()) for name, gone in meter.gone.items())


@pytest.mark.parametrize("part", [0.8, 0.6, 0.45, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_rounded_widths_meet_the_budget_and_come_near_the_best_there_is(seed: int, part: float) -> None:
    generator = np.random.default_rng(seed)
    sizes = {"a": 32, "b": 20, "c": 40}
    costs = {
        name: np.sort(generator.gamma(0.5, generator.uniform(0.3, 3), size)) for name, size in sizes.items()
    }
    meter = _rounded(sizes, costs, part, 8)
    graph = _graph(**sizes)
    ladders = [[size, *(w for w in range(8, size, 8))] for size in sizes.values()]
    best = min(
        sum(float(costs[name][: sizes[name] - kept].sum()) for name, kept in zip(sizes, widths, strict=True))
        for widths in itertools.product(*ladders)
        if graph.macs(dict(zip(sizes, widths, strict=True))) <= part * graph.macs()
    )
    assert _spent(meter, costs) <= 1.01 * best


def test_what_rounding_left_of_the_budget_goes_to_the_dearest() -> None:
    sizes = {"a": 24, "b": 24, "c": 24}
    costs = {"a": np.full(24, 1.0), "b": np.full(24, 1.01), "c": np.full(24, 5.0)}
    graph = _graph(**sizes)
    limits = limits_of(graph, round_to=8, min_nodes=1)
    lists = [_elimination(name, costs[name][:16].tolist()) for name in sizes]
    meter = meter_of(graph, "nodes")
    meter.remove({"a": 3, "b": 3, "c": 3})
    round_off(meter, orders(lists), limits, 63)
    assert meter.kept == {"a": 8, "b": 24, "c": 24}


def test_free_nodes_do_not_come_back_for_the_budget_s_sake() -> None:
    meter = _rounded({"a": 32, "b": 32}, {"a": np.zeros(32), "b": np.arange(1.0, 33)}, 0.7, 8)
    assert meter.kept == {"a": 16, "b": 32} or meter.kept["b"] == 32
