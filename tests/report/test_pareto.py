from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console

from tsdistill.errors import TsdistillError
from tsdistill.evaluation import Comparison
from tsdistill.evaluation.metric import Traits
from tsdistill.pruning.accuracy_search import DropResult, Trial
from tsdistill.pruning.budget_sweep import Sweep, SweepRow
from tsdistill.report.pareto import pareto_figure, save_pareto, sweep_table, trials_table

WHOLE = {"macs": 1_810_000_000, "params": 11_700_000, "nodes": 2000}
PARTS = (0.8, 0.5, 0.2)


def _scaled(part: float) -> dict[str, int]:
    return {name: int(amount * part) for name, amount in WHOLE.items()}


@pytest.fixture
def swept() -> Sweep:
    rows = [
        SweepRow(str(part), cast(Any, SimpleNamespace(before=WHOLE, after=_scaled(part)))) for part in PARTS
    ]
    sizes = [WHOLE, *map(_scaled, PARTS)]
    compared = Comparison(
        names=("dense", *map(str, PARTS)),
        params=tuple(size["params"] for size in sizes),
        macs=tuple(size["macs"] for size in sizes),
        latency=(0.05, 0.045, 0.03, 0.0181),
        metrics=tuple(
            {"top1": top, "top5": 100.0, "agreement": same, "kl": far}
            for top, same, far in ((92.85, 100, 0), (92.61, 98.2, 0.01), (91.2, 95, 0.04), (86, 88.3, 0.2))
        ),
        data="2000 of x",
        traits={
            "top1": Traits("%"),
            "top5": Traits("%"),
            "agreement": Traits("%"),
            "kl": Traits("nats", False),
        },
    )
    note = "a budget of 0.05 of the MACs cannot be met"
    amounts = tuple(float(size["macs"]) for size in sizes)
    return Sweep("macs", tuple(rows), compared, "held-out samples", (note,), amounts)


def test_the_picture(swept: Sweep, tmp_path: Path) -> None:
    path = save_pareto(swept, tmp_path / "pareto.png", title="resnet18")
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert [file.name for file in tmp_path.iterdir()] == ["pareto.png"]


def test_percent_share_an_axis_and_the_dense_model_is_marked(swept: Sweep) -> None:
    figure = pareto_figure(swept)
    (panel,) = figure.axes
    drawn = [(line.get_linestyle(), np.asarray(line.get_xydata())) for line in panel.lines]
    lines = [points for _, points in drawn if len(points) == 4]
    assert [points[:, 0].tolist() for points in lines] == [sorted(swept.amounts)] * 2
    assert lines[0][:, 1].tolist() == [86, 91.2, 92.61, 92.85]
    assert [points[0, 1] for style, points in drawn if style == "--"] == [92.85, 100]
    assert [text.get_text() for text in panel.texts] == ["dense", "0.8", "0.5", "0.2"]
    assert panel.get_xlabel() == "MACs"
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["top-1 accuracy (%)", "top-1 agreement with dense (%)"]


def test_latency_and_a_metric_by_itself(swept: Sweep) -> None:
    alone = replace(swept.comparison, metrics=tuple({"kl": m["kl"]} for m in swept.comparison.metrics))
    figure = pareto_figure(replace(swept, kind="latency", comparison=alone))
    (panel,) = figure.axes
    assert panel.get_xlabel() == "latency at batch 1"
    assert panel.get_ylabel() == "KL divergence from dense (nats); lower is better"
    assert not figure.legends


def test_nothing_to_draw(swept: Sweep) -> None:
    bare = replace(swept.comparison, metrics=({},) * 4)
    with pytest.raises(TsdistillError, match="no metric"):
        pareto_figure(replace(swept, comparison=bare))


def _printed(what: Any) -> str:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(what)
    return console.export_text()


def test_the_table(swept: Sweep) -> None:
    text = _printed(sweep_table(swept))
    (line,) = [line for line in text.splitlines() if line.strip().startswith("0.5")]
    assert line.split() == [
        *("0.5", "905M", "50.0", "%", "5.85M", "50.0", "%", "30", "ms", "60.0", "%"),
        *("91.20", "%", "100.00", "%", "95.00", "%", "0.04", "nats"),
    ]
    assert "Measured on held-out samples: 2000 of x" in text
    assert "0.05 of the MACs cannot be met" in text


def test_what_a_search_tried() -> None:
    trials = (
        Trial(0.22, 0.219, 90.1, 2.75, False),
        Trial(0.47, 0.469, 92.4, 0.45, True),
        Trial(0.1, None, None, None, False),
    )
    found = SimpleNamespace(
        metric="top1", unit="%", dense_figure=92.85, figure=92.4, max_drop=1.0, trials=trials
    )
    text = _printed(trials_table(cast(DropResult, found)))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "21.9 % 90.1 % 2.75 % too much" in lines
    assert "46.9 % 92.4 % 0.45 % written" in lines
    assert "10.0 % cannot be cut so far" in lines
