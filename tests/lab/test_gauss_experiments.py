import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.lab import Outcome, run
from tsdistill.lab.experiments import population_gradient
from tsdistill.lab.experiments.gradient_rule import compare_with_autograd

SMALL: dict[str, dict[str, Any]] = {
    "population-gradient": {
        "dimension": 6,
        "nodes": (1, 3),
        "samples": 20_000,
        "dimensions": (2, 20),
        "deviations": (0.1, 1.0),
        "starts": 40,
        "symmetric": (2,),
        "perturbations": (1e-2, 1e-5),
        "repeats": 6,
        "searches": 15,
    },
    "gradient-rule": {"depths": (1, 3), "repeats": 4, "steps": 1500},
    "boundaries": {"pairs": 8, "steps": 3000, "frames": 12},
}


def small_run(name: str, **settings: Any) -> Outcome:
    return run(name, settings={**SMALL[name], **settings})


def holds(outcome: Outcome) -> None:
    assert [claim.text for claim in outcome.claims if claim.held is not True] == []
    assert len(json.dumps(outcome.to_dict(), allow_nan=False)) < 300_000
    assert all(len(row) == len(table.columns) for table in outcome.tables for row in table.rows)


def test_lemma_1_holds() -> None:
    holds(small_run("gradient-rule"))


def test_the_population_gradient_holds_and_what_is_finished_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("population-gradient", keep=tmp_path, settings=SMALL["population-gradient"])
    holds(first)
    assert len(list(tmp_path.glob("*.json"))) == 5
    monkeypatch.setattr(population_gradient, "STUDIES", dict.fromkeys(population_gradient.STUDIES))
    again = run("population-gradient", keep=tmp_path, settings=SMALL["population-gradient"])
    assert again.claims == first.claims
    assert again.tables == first.tables


def test_boundaries_find_the_teachers_and_the_rest_fades() -> None:
    outcome = small_run("boundaries")
    frames = outcome.data["frames"]
    assert len(frames) == 12
    assert frames[0]["step"] == 0
    assert frames[-1]["step"] == 3000
    assert frames[-1]["loss"] < 1e-3 * frames[0]["loss"]
    strong = [
        node["strength"] for node in outcome.data["nodes"] if node["gap"] is not None and node["gap"] < 0.05
    ]
    weak = [
        node["strength"] for node in outcome.data["nodes"] if node["gap"] is not None and node["gap"] >= 0.05
    ]
    assert len(strong) >= 10
    assert sorted(weak)[len(weak) // 2] < 0.05 * sorted(strong)[len(strong) // 2]
    json.dumps(outcome.to_dict(), allow_nan=False)


@pytest.mark.parametrize("name", ["gradient-rule", "boundaries"])
def test_a_seed_decides_everything(name: str) -> None:
    small = {"steps": 50, "repeats": 1} if name == "gradient-rule" else {"steps": 50}
    first, again, other = (small_run(name, seed=seed, **small).data for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("population-gradient", {"dimension": 0}),
        ("population-gradient", {"symmetric": (1,)}),
        ("population-gradient", {"dtype": "float32"}),
        ("population-gradient", {"dimension": 20_000}),
        ("gradient-rule", {"depths": (0,)}),
        ("gradient-rule", {"depths": ()}),
        ("boundaries", {"decay": -1.0}),
        ("boundaries", {"students": 0}),
        ("boundaries", {"frames": 1}),
        ("boundaries", {"pairs": 10**7}),
        ("boundaries", {"teachers": 7}),
        ("boundaries", {"rate": 1e6, "steps": 50}),
    ],
)
def test_bad_settings(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(TsdistillError) as caught:
        small_run(name, **wrong)
    assert "\n" not in str(caught.value)


def test_a_student_that_is_silent_is_counted_and_no_error() -> None:
    student = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    for value in student.parameters():
        value.data.fill_(-1)
    found = compare_with_autograd(student, student, torch.ones(3, 2, dtype=torch.float64))
    assert found == {"errors": [0.0], "output": 0.0, "silent": True}
