"""An outcome written, read back and shown."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.animation import FuncAnimation

from tests.report.console import text
from tsdistill.errors import TsdistillError
from tsdistill.lab import Claim, Outcome, Table
from tsdistill.lab.figures import claims_table, figures, outcome_table, read_outcome, save_outcome
from tsdistill.report.canvas import grid

CLAIMS = (
    Claim("it rises", "Theorem 1", "0.1 to 0.9", True),
    Claim("it falls", "Theorem 2", "0.2 to 0.3", False),
    Claim("it shines", "the talk", "nothing was seen", None),
)


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """Of ``deep``, whose drawing is a line here."""

    def draw(found: Outcome) -> dict[str, Any]:
        figure, (panel,) = grid(1)
        panel.plot(found.data["line"])
        return {"line": figure}

    monkeypatch.setitem(sys.modules, "tsdistill.lab.figures.deep_figures", SimpleNamespace(draw=draw))
    table = Table("Numbers", ("name", "count", "share"), (("a", 1200, 0.12345), ("b", None, math.nan)))
    data = {"line": np.array([1.0, 2.0, math.inf]), "sizes": {3: np.int64(4)}}
    return Outcome("deep", {"seed": 1, "widths": (1, 2)}, CLAIMS, (table,), data, ("a note",), 2.5)


def test_what_is_written_is_read_back_and_drawn_again(outcome: Outcome, tmp_path: Path) -> None:
    saved = save_outcome(outcome, tmp_path / "new" / "folder", formats=("svg", ".png"))
    assert [file.name for file in saved.pictures] == ["line.svg", "line.png"]
    plain = json.loads(saved.outcome.read_text())
    assert (plain["format"], plain["kind"]) == (1, "lab")
    assert plain["data"] == {"line": [1.0, 2.0, None], "sizes": {"3": 4}}
    for place in (saved.outcome, saved.outcome.parent):
        found = read_outcome(place)
        assert found.claims == CLAIMS
        assert found.tables[0].rows == (("a", 1200, 0.12345), ("b", None, None))
        assert (found.seconds, found.notes, found.held) == (2.5, ("a note",), False)
        assert list(figures(found)) == ["line"]


def test_an_animation_is_written_where_there_is_one(
    outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def animate(found: Outcome) -> FuncAnimation:
        figure, (panel,) = grid(1)
        (line,) = panel.plot([0, 1], [0, 0])
        return FuncAnimation(figure, lambda k: line.set_ydata([0, k]), frames=3)

    drawing = sys.modules["tsdistill.lab.figures.deep_figures"]
    monkeypatch.setattr(drawing, "animate", animate, raising=False)
    assert [file.suffix for file in save_outcome(outcome, tmp_path, ("png",)).pictures] == [".png", ".gif"]
    assert (tmp_path / "deep.gif").read_bytes().startswith(b"GIF89a")
    still = save_outcome(outcome, tmp_path, ("png",), animated=False)
    assert [file.suffix for file in still.pictures] == [".png"]


def test_claims_on_a_terminal() -> None:
    lines = text(claims_table(CLAIMS)).splitlines()
    for claim, word in zip(CLAIMS, ("held", "did not hold", "cannot say"), strict=True):
        place = next(k for k, line in enumerate(lines) if claim.text in line)
        assert lines[place].strip().startswith(word)
        assert claim.source in lines[place]
        assert claim.measured in lines[place + 1]


def test_numbers_on_a_terminal(outcome: Outcome) -> None:
    rows = [line.split() for line in text(outcome_table(outcome.tables[0])).splitlines()]
    assert ["a", "1,200", "0.123"] in rows
    assert ["b"] in rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("{", "is not JSON"),
        ("{}", "no valid 'format'"),
        ("[1]", "should be a mapping"),
    ],
)
def test_what_is_no_outcome(text: str | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "outcome.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(TsdistillError, match=words):
        read_outcome(file)


def test_what_nothing_draws_and_nowhere_to_write(outcome: Outcome, tmp_path: Path) -> None:
    with pytest.raises(TsdistillError, match=r"'other'.*two-layer"):
        figures(Outcome("other", {}, (), ()))
    (tmp_path / "file").write_text("")
    with pytest.raises(TsdistillError, match="file"):
        save_outcome(outcome, tmp_path / "file" / "folder")
