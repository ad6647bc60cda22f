"""Figures of specialization, connectivity and generalisation: drawn from the data alone, all of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tsdistill.lab import Outcome, run
from tsdistill.lab.figures import connectivity_figures, generalisation_figures, specialization_figures

SMALL = {"inputs": 6, "nodes": 3, "outputs": 4, "steps": 200}


def stored(name: str, **settings) -> Outcome:
    """The outcome as it is read from a file."""
    return Outcome(
        **{**json.loads(json.dumps(run(name, settings=settings).to_dict())), "claims": (), "tables": ()}
    )


def test_every_student_node_is_on_the_l_curve(tmp_path):
    outcome = stored("specialization", seeds=2, **{**SMALL, "inputs": (6,)}, over=(1, 3))
    figures = specialization_figures.draw(outcome)
    assert set(figures) == {"l-curve", "bound", "students"}
    (panel,) = (axes for axes in figures["l-curve"].axes if axes.get_visible())
    ring, _, filled = (np.asarray(collection.get_offsets()) for collection in panel.collections)
    assert len(ring) + len(filled) == 2 * 9
    assert sorted(np.concatenate([ring, filled])[:, 0]) == pytest.approx(
        sorted(v for row in outcome.data["cells"][1]["end"]["best"] for v in row)
    )
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.svg")


def test_each_pair_has_its_three_paths(tmp_path):
    outcome = stored("connectivity", pairs=2, **SMALL, over=(4,), conv_pairs=0, points=3)
    figure = connectivity_figures.draw(outcome)["paths"]
    lines = [line for line in figure.axes[0].lines if len(np.asarray(line.get_xdata())) > 2]
    assert len(lines) == 3 * (2 + 1)
    for line in lines:
        assert np.asarray(line.get_xdata())[[0, -1]].tolist() == [0, 1]
    figure.savefig(tmp_path / "paths.png")


def test_a_dot_for_every_run_and_its_rank_correlation_above(tmp_path):
    outcome = stored("generalisation", seeds=3, **SMALL, samples=(20, 50), over=(1, 2))
    figures = generalisation_figures.draw(outcome)
    assert len(figures["shifted"].axes) == 4
    for panel in figures["shifted"].axes:
        assert sum(len(np.asarray(collection.get_offsets())) for collection in panel.collections) == 12
        assert "rank correlation" in panel.get_title("right")
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
