"""The experiment specialization on a small sweep: what holds there, and what is kept in files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tsdistill.errors import TsdistillError
from tsdistill.lab import engine, run

SMALL: dict[str, Any] = {"seeds": 3, "inputs": (8,), "nodes": 3, "outputs": 6, "over": (1, 4), "steps": 4000}


@pytest.fixture(scope="module")
def outcome():
    return run("specialization", settings=SMALL)


def claim(outcome, start: str):
    return next(each for each in outcome.claims if each.text.startswith(start))


def test_small_students_find_every_teacher_node_and_unaligned_nodes_can_go(outcome):
    assert claim(outcome, "at small gradient").held
    assert claim(outcome, "they can be pruned").held
    assert claim(outcome, "a teacher node is recovered to precision").held
    wide = outcome.data["cells"][1]["end"]
    assert sum(not flag for row in wide["aligned"] for flag in row) > 0
    for moved, instead in zip(wide["moved"], wide["instead"], strict=True):
        assert moved < 1e-3 < instead


def test_measured_precision_is_within_what_the_bound_grants(outcome):
    for cell in outcome.data["cells"]:
        for shot in cell["snapshots"]:
            for gradient, alphas, found in zip(
                shot["gradient"], shot["alpha"], shot["precision"], strict=True
            ):
                for alpha, sine in zip(alphas, found, strict=True):
                    assert (
                        alpha <= 0 or sine <= 5 * cell["K"] ** 1.5 * (cell["d"] + 1) ** 0.5 * gradient / alpha
                    )


def test_what_was_trained_is_not_trained_again(tmp_path, monkeypatch):
    settings = {**SMALL, "steps": 200, "over": (2,)}
    first = run("specialization", keep=tmp_path, settings=settings)

    def refuse(*args, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(engine, "train", refuse)
    again = run("specialization", keep=tmp_path, settings=settings)
    assert again.data == first.data
    with pytest.raises(AssertionError, match="trained again"):
        run("specialization", keep=tmp_path, settings={**settings, "seed": 1})


def test_same_seed_same_numbers():
    settings = {**SMALL, "steps": 200, "over": (2,)}
    one, two, other = (run("specialization", settings={**settings, "seed": seed}) for seed in (3, 3, 4))
    assert json.dumps(one.data) == json.dumps(two.data) != json.dumps(other.data)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"inputs": (0,)}, "inputs.* 0"),
        ({"decay": -1.0}, "decay.* -1"),
        ({"over": ()}, "over"),
        ({"nodes": 10**7, "over": (10,), "inputs": (10**6,)}, "--seeds"),
    ],
)
def test_wrong_settings_are_refused_before_anything_runs(wrong, said):
    with pytest.raises(TsdistillError, match=said):
        run("specialization", settings={**SMALL, **wrong})
