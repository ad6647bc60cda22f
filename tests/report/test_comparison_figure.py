from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tsdistill.errors import TsdistillError
from tsdistill.evaluation import Comparison, Traits
from tsdistill.report.comparison_figure import comparison_figure, save_comparison

COUNT = 8
MANY = Comparison(
    names=("dense.pt", *(f"out/pruned-{n}.safetensors" for n in range(1, COUNT))),
    params=(1,) * COUNT,
    macs=tuple(1000 - 10 * n for n in range(COUNT)),
    latency=tuple(0.01 - 0.0001 * n for n in range(COUNT)),
    metrics=tuple({"top1": 90 - 0.05 * n, "kl": 0.01 * n} for n in range(COUNT)),
    latency_spread=(0.0005,) * COUNT,
    traits={"top1": Traits("%"), "kl": Traits("nats", False)},
)


def test_every_model_is_a_dot_against_both_costs() -> None:
    figure = comparison_figure(MANY, title="A title")
    for panel, costs in zip(figure.axes, (MANY.macs, MANY.latency), strict=True):
        drawn = sorted(
            tuple(point)
            for dots in panel.collections
            if hasattr(dots, "get_sizes")
            for point in np.asarray(dots.get_offsets())
        )
        assert drawn == sorted((cost, m["top1"]) for cost, m in zip(costs, MANY.metrics, strict=True))
        assert np.asarray(panel.lines[0].get_ydata()).tolist() == [90, 90]
    assert "top-1 accuracy (%)" in figure.axes[0].get_ylabel()
    assert "MACs" in figure.axes[0].get_xlabel()


def test_names_stand_beside_one_another_within_the_panel() -> None:
    figure = comparison_figure(MANY)
    figure.canvas.draw()
    for panel in figure.axes:
        boxes = [note.get_window_extent() for note in panel.texts]
        assert [note.get_text() for note in panel.texts][:2] == ["dense", "pruned-1"]
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        outer = panel.get_window_extent()
        assert all(outer.x0 <= box.x0 and box.x1 <= outer.x1 for box in boxes)


def test_another_metric_says_which_way_is_better() -> None:
    label = comparison_figure(MANY, "kl").axes[0].get_ylabel()
    assert "KL divergence from dense (nats); lower is better" in label


def test_one_model_and_equal_figures() -> None:
    alone = Comparison(("a",), (1,), (0,), (0.0,), ({"top1": 0.0},))
    assert len(comparison_figure(alone).axes[0].texts) == 1


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_files(tmp_path: Path, suffix: str, start: bytes) -> None:
    path = save_comparison(MANY, tmp_path / f"plot.{suffix}")
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(TsdistillError, match="nothing to draw"):
        comparison_figure(replace(MANY, metrics=({},) * COUNT))
    with pytest.raises(TsdistillError, match=r"'top9'.*top1, kl"):
        comparison_figure(MANY, "top9")
    with pytest.raises(TsdistillError, match="cannot be written"):
        save_comparison(MANY, "missing/plot.png")
