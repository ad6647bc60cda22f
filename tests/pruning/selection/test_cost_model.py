from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch

from tests.networks import residual
from tests.pruning.selection.chains import CostTerms
from tsdistill.errors import TsdistillError
from tsdistill.pruning.selection.cost_model import cost_model_of, savings_per_node
from tsdistill.tracing import trace


@pytest.mark.parametrize("kind", ["macs", "params", "nodes", "latency"])
def test_the_meter_agrees_with_the_graph(kind: str) -> None:
    graph, price = trace(residual(), torch.randn(1, 3, 8, 8)), CostTerms()
    cost_model = cost_model_of(graph, kind, price)
    totals: dict[str, Callable[[Mapping[str, int]], float]] = {
        "macs": graph.macs,
        "params": graph.params,
        "nodes": lambda kept: sum(kept.values()),
        "latency": lambda kept: 0.25 + sum(rate * term.value(kept) for term, rate in price.terms(graph)),
    }
    kept = dict(graph.widths)
    assert savings_per_node(cost_model)["first"] == pytest.approx(
        totals[kind](kept) - totals[kind]({**kept, "first": kept["first"] - 1})
    )
    for name, count in (("stem", 3), ("first", 5), ("stem", 1), ("stem", -2)):
        smaller = {**kept, name: kept[name] - count}
        before, after = totals[kind](kept), totals[kind](smaller)
        assert cost_model.total == pytest.approx(before)
        assert cost_model.saving({name: count}) == pytest.approx(before - after)
        cost_model.remove({name: count})
        kept = smaller
    assert cost_model.total == pytest.approx(after)
    assert cost_model.kept == kept
    assert cost_model.gone == {"stem": 2, "first": 5}


def test_what_two_groups_save_together_counts_once() -> None:
    graph = trace(residual(), torch.randn(1, 3, 8, 8))
    cost_model = cost_model_of(graph, "macs")
    both = {"stem": 4, "first": 6}
    assert cost_model.saving(both) < cost_model.saving({"stem": 4}) + cost_model.saving({"first": 6})
    assert cost_model.saving(both) == graph.macs() - graph.macs({"stem": 4, "first": 6})


def test_latency_needs_a_price() -> None:
    with pytest.raises(TsdistillError, match="price"):
        cost_model_of(trace(residual(), torch.randn(1, 3, 8, 8)), "latency")
