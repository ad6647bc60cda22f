from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from tests.alignment.small import images, residual
from tsdistill.errors import TsdistillError
from tsdistill.evaluation import evaluate
from tsdistill.pruning import Sweep, sweep
from tsdistill.pruning.budget_sweep import SweepRow


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
