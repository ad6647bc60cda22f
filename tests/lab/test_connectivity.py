"""The experiment connectivity on a few pairs: what the polyline must do, and what is told."""

from __future__ import annotations

from typing import Any

import pytest

from tsdistill.errors import TsdistillError
from tsdistill.lab import run

SIZES: dict[str, Any] = {"inputs": 8, "nodes": 3, "outputs": 6, "over": (4,)}
SMALL: dict[str, Any] = {**SIZES, "pairs": 2, "steps": 3000, "points": 4}


def test_two_layer_students_are_joined_and_the_straight_line_is_worse():
    told = []
    outcome = run("connectivity", tell=lambda *args: told.append(args), settings={**SMALL, "conv_pairs": 0})
    assert outcome.held
    (cell,) = outcome.data["cells"]
    for path in ("half", "least"):
        for losses, ends in zip(cell[path]["loss"], cell[path]["ends"], strict=True):
            assert max(losses) <= max(ends) * (1 + 1e-9)
            assert len(ends) == len(cell[path]["segments"]) + 1
    assert min(map(max, cell["straight"]["loss"])) > 100 * max(map(max, cell["half"]["loss"]))
    assert told[-1][1] == told[-1][2] == 1


def test_convnets_are_joined_below_the_straight_line(tmp_path):
    settings = {
        **SMALL,
        "steps": 100,
        "conv_pairs": 1,
        "conv_steps": 80,
        "conv_over": 2,
        "conv_samples": 256,
    }
    outcome = run("connectivity", keep=tmp_path, settings=settings)
    conv = outcome.data["cells"][1]
    assert conv["kind"] == "ConvNet"
    assert max(conv["half"]["loss"][0]) < 0.7 * max(conv["straight"]["loss"][0])
    assert conv["half"]["loss"][0][0] == pytest.approx(conv["straight"]["loss"][0][0])
    assert conv["half"]["loss"][0][-1] == pytest.approx(conv["straight"]["loss"][0][-1], rel=1e-4)
    assert len(list(tmp_path.iterdir())) == 2


def test_students_without_a_free_node_are_refused():
    with pytest.raises(TsdistillError, match="over"):
        run("connectivity", settings={**{**SMALL, "over": (1,), "steps": 10}, "conv_pairs": 0})
