from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from tests.networks import images, residual
from tsdistill.errors import TsdistillError
from tsdistill.evaluation import evaluate
from tsdistill.plugins.manager import registry
from tsdistill.pruning import Sweep, sweep
from tsdistill.pruning.budget_sweep import SweepRow
from tsdistill.pruning.selection.cost import Amounts, CostEstimate, Reading
from tsdistill.report.pareto import pareto_figure, sweep_table
from tsdistill.tracing.graph import NodeGraph, Term


@pytest.fixture(scope="module")
def swept() -> tuple[Sweep, list[SweepRow]]:
    rows: list[SweepRow] = []
    model = residual(width=16, inner=24)
    x = images(240)
    data = list(zip(x.split(40), model(x).argmax(1).split(40), strict=True))
    made = sweep(model, [0.8, "60%", "0.01"], data=iter(data), inputs={"samples": 160}, done=rows.append)
    return made, rows


def test_every_budget_is_met_and_reported(swept: tuple[Sweep, list[SweepRow]]) -> None:
    made, rows = swept
    assert [row.budget for row in made.rows] == ["0.8", "60%"]
    assert list(made.rows) == rows
    dense, *amounts = made.amounts
    assert amounts[0] <= 0.8 * dense
    assert amounts[1] <= 0.6 * dense
    assert made.comparison.names == ("dense", "0.8", "60%")
    assert made.comparison.macs[1:] == tuple(amounts)
    assert made.comparison.metrics[0]["top1"] == 100
    assert made.measured_on == "held-out samples"


def test_budgets_that_cannot_be_met_are_told_of(swept: tuple[Sweep, list[SweepRow]]) -> None:
    (note,) = swept[0].notes
    assert "0.01 of the MACs cannot be met" in note


def test_the_figures_are_those_of_the_models(swept: tuple[Sweep, list[SweepRow]]) -> None:
    made, _ = swept
    x = images(240)
    y = residual(width=16, inner=24)(x).argmax(1)
    judged = list(zip(x[160:].split(40), y[160:].split(40), strict=True))
    for row, metrics in zip(made.rows, made.comparison.metrics[1:], strict=True):
        assert evaluate(row.result.model, judged, ["top1"])["top1"] == pytest.approx(metrics["top1"])


def test_it_is_plain_data(swept: tuple[Sweep, list[SweepRow]]) -> None:
    plain = json.loads(json.dumps(swept[0].to_dict(), allow_nan=False))
    assert [row["budget"] for row in plain["rows"]] == ["0.8", "60%"]
    assert plain["amounts"] == list(swept[0].amounts)
    assert plain["comparison"]["models"][0]["name"] == "dense"


class _Bytes:
    """Bytes of the parameters."""

    amounts = Amounts("stored bytes", {"b": 1.0, "kb": 1e3}, ("kB", "B"), "8kB")

    def terms(self, graph: NodeGraph) -> list[tuple[Term, float]]:
        return [(term, 4.0) for term in graph.sizes]


class _MeasuredBytes:
    """The same, measured."""

    amounts = _Bytes.amounts

    def estimate(self, model: nn.Module, graph: NodeGraph, example: Any) -> CostEstimate:
        return CostEstimate(tuple(_Bytes().terms(graph)))

    def measure(self, dense: nn.Module, small: nn.Module, example: Any) -> Reading:
        return Reading(*(4.0 * sum(p.numel() for p in model.parameters()) for model in (dense, small)))


@pytest.mark.parametrize("cost", [_Bytes(), _MeasuredBytes()])
def test_a_sweep_goes_over_the_cost_of_a_plugin(monkeypatch: pytest.MonkeyPatch, cost: Any) -> None:
    known = registry().items("cost")
    monkeypatch.setitem(registry()._kinds, "cost", {**known, "stored": cost})
    made = sweep(residual(), {"stored": ["0.8", "0.6"]}, data=images(64))
    dense, *amounts = made.amounts
    assert amounts == [4 * params for params in made.comparison.params[1:]]
    assert dense == 4 * made.comparison.params[0]
    assert 0.7 < amounts[0] / dense <= 0.84
    assert pareto_figure(made).axes[0].get_xlabel() == "stored bytes"
    rows: Any = sweep_table(made).renderables[0]
    assert rows.columns[1].header == "stored bytes"


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        ([], "needs budgets"),
        ([0.5, "50%"], "twice"),
        ([0.5, "half"], "half"),
        ({"layers": [0.5]}, "'layers'"),
        ({"macs": [0.5], "params": [0.5]}, "one kind"),
        ([0.001], "none of the budgets can be met"),
        ({"latency": ["10kg"]}, "10kg"),
    ],
)
def test_bad_input(budgets: Any, words: str) -> None:
    with pytest.raises(TsdistillError) as caught:
        sweep(residual(), budgets, data=torch.zeros(8, 3, 8, 8) + images(8))
    assert words in str(caught.value)
