from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tsdistill.errors import TsdistillError
from tsdistill.lab import Outcome, run
from tsdistill.lab.figures import boundaries_figures, gradient_rule_figures, population_gradient_figures

SMALL: dict[str, Any] = {"dimension": 4, "nodes": (1, 2), "samples": 2000, "dimensions": (2, 9), "starts": 10}
SMALL |= {
    "deviations": (0.1, 1.0),
    "symmetric": (2,),
    "perturbations": (1e-2, 1e-3),
    "repeats": 2,
    "searches": 5,
}


@pytest.fixture(scope="module")
def population() -> Outcome:
    return run("population-gradient", settings=SMALL)


@pytest.fixture(scope="module")
def plane() -> Outcome:
    return run("boundaries", settings={"pairs": 3, "steps": 200, "frames": 4})


def shown(figures: dict[str, Any], folder: Path) -> dict[str, list[Any]]:
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=40)
    return {name: [panel for panel in figure.axes if panel.get_visible()] for name, figure in figures.items()}


def test_the_population_gradient_is_drawn(population: Outcome, tmp_path: Path) -> None:
    panels = shown(population_gradient_figures.draw(population), tmp_path)
    assert {name: len(found) for name, found in panels.items()} == {
        "population-gradient": 3,
        "one-node-basin": 4,
        "two-node-phase": 1,
        "symmetry-breaking": 4,
        "critical-manifolds": 3,
    }
    assert len(panels["population-gradient"][0].collections) == 2
    flat = [tuple(each) for each in panels["critical-manifolds"][2].collections[0].get_offsets()]
    assert all(across <= up for across, up in flat)


def test_no_search_no_points(population: Outcome) -> None:
    empty = {**population.data["manifolds"], "points": [], "ring": []}
    figures = population_gradient_figures.draw(
        replace(population, data={**population.data, "manifolds": empty})
    )
    assert figures["critical-manifolds"].axes[2].get_legend() is None


def test_the_gradient_rule_is_drawn(tmp_path: Path) -> None:
    outcome = run("gradient-rule", settings={"depths": (1, 2), "repeats": 4, "steps": 30})
    panels = shown(gradient_rule_figures.draw(outcome), tmp_path)
    errors = panels["gradient-rule"][0]
    assert [label.get_text() for label in errors.get_yticklabels()] == [
        item["family"] for item in outcome.data["families"][: len(outcome.data["families"]) // 2]
    ]
    heat = panels["top-down-modulation"][3].images[0].get_array()
    assert heat.shape == (20, 20)


def test_boundaries_are_drawn_where_they_are(plane: Outcome, tmp_path: Path) -> None:
    panels = shown(boundaries_figures.draw(plane), tmp_path)
    last = panels["boundaries"][-1]
    across, up = last.lines[0].get_data()
    a, b, c = plane.data["teacher"][0]
    assert all(abs(a * x + b * y + c) < 1e-6 for x, y in zip(across, up, strict=True))
    assert last.get_title("left") == "step 200"


def test_the_film_has_every_frame_and_ends_on_the_last(plane: Outcome, tmp_path: Path) -> None:
    film = boundaries_figures.animate(plane)
    film.save(tmp_path / "film.gif", writer="pillow", fps=12)
    with Image.open(tmp_path / "film.gif") as picture:
        assert getattr(picture, "n_frames", 1) >= 4
        first = picture.convert("RGB").tobytes()
        picture.seek(3)
        assert picture.convert("RGB").tobytes() != first
    with pytest.raises(TsdistillError, match=r"\.txt"):
        film.save(tmp_path / "film.txt")


def test_a_writer_that_is_missing(plane: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matplotlib.animation.writers.is_available", lambda name: False)
    with pytest.raises(TsdistillError, match="ffmpeg"):
        boundaries_figures.animate(plane).save(tmp_path / "film.mp4")
