from __future__ import annotations

import pytest
import torch

from tests.alignment.small import residual
from tsdistill.errors import TsdistillError
from tsdistill.pruning.choosing.budget import Budget, Meter, budget_of, fraction
from tsdistill.tracing import trace


@pytest.mark.parametrize(
    ("value", "part"), [(0.5, 0.5), ("0.5", 0.5), ("50%", 0.5), (1, 1.0), (" 7.5% ", 0.075)]
)
def test_fractions_and_percentages(value: object, part: float) -> None:
    assert fraction(value) == pytest.approx(part)


@pytest.mark.parametrize("value", [0, 1.2, -0.5, "120%", "half", "nan", "inf", "", True, None])
def test_what_is_no_part_is_one_line(value: object) -> None:
    with pytest.raises(TsdistillError, match="above 0 and at most 1"):
        fraction(value)


def test_exactly_one_budget() -> None:
    assert budget_of(params="25%") == Budget("params", 0.25)
    with pytest.raises(TsdistillError, match="no budget"):
        budget_of()
    with pytest.raises(TsdistillError, match="macs and nodes are given"):
        budget_of(macs=0.5, nodes=0.5)


@pytest.mark.parametrize("kind", ["macs", "params", "nodes"])
def test_the_meter_agrees_with_the_graph(kind: str) -> None:
    graph = trace(residual(), torch.randn(1, 3, 8, 8))
    meter = Meter(graph, kind)
    kept = dict(graph.widths)
    for name, count in (("stem", 3), ("first", 5), ("stem", 1)):
        smaller = {**kept, name: kept[name] - count}
        totals = [
            {"macs": graph.macs, "params": graph.params, "nodes": lambda k: sum(k.values())}[kind](widths)
            for widths in (kept, smaller)
        ]
        assert meter.total == totals[0]
        assert meter.saving({name: count}) == totals[0] - totals[1]
        meter.remove({name: count})
        kept = smaller
    assert meter.total == totals[1]
