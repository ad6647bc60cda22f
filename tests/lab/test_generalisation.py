"""The experiment generalisation: rank correlations from known runs, and a small sweep."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tsdistill.lab import run
from tsdistill.lab.engine import decaying_teachers
from tsdistill.lab.experiments.generalisation import (
    SHIFTS,
    _agreement,
    claims_of,
    partial_rank,
    rank_over_runs,
    rank_within_cells,
)


def made(alignment, training, evaluation):
    shifted = {"wider": {"loss": evaluation, "agreement": [1 - value for value in evaluation]}}
    return {"alignment": alignment, "training": training, "evaluation": evaluation, "shifted": shifted}


def test_claims_follow_the_rank_correlations():
    rng = np.random.default_rng(0)
    cells = []
    for _ in range(6):
        aligned = rng.uniform(0.5, 1, 12)
        cells.append(made(list(aligned), list(rng.uniform(0, 1, 12)), list(1 - aligned)))
    assert [claim.held for claim in claims_of(cells)][:4] == [True, True, True, True]
    swapped = [made(cell["training"], cell["alignment"], cell["evaluation"]) for cell in cells]
    assert [claim.held for claim in claims_of(swapped)][:4] == [False, False, False, False]


def test_at_equal_third_a_shared_cause_vanishes():
    rng = np.random.default_rng(1)
    cause = rng.normal(size=4000)
    cell = {
        "a": list(cause + rng.normal(size=4000)),
        "b": list(cause + rng.normal(size=4000)),
        "c": list(cause),
    }
    reads = [lambda cell, name=name: cell[name] for name in "abc"]
    assert rank_over_runs([cell], *reads[:2]) > 0.4
    assert abs(partial_rank([cell], *reads)) < 0.08


def test_within_cells_what_differs_between_them_does_not_count():
    cells = [
        {"a": [10 * k + v for v in (1, 2, 3, 4, 5)], "b": [10 * k - v for v in (1, 2, 3, 4, 5)]}
        for k in range(5)
    ]
    reads = [lambda cell, name=name: cell[name] for name in "ab"]
    assert rank_over_runs(cells, *reads) > 0.8
    assert rank_within_cells(cells, *reads) == pytest.approx(-1)
    assert math.isnan(rank_within_cells([{"a": [1, 2], "b": [1, 2]}], *reads))


def test_shifted_inputs_are_what_they_are_called():
    x = torch.randn(20_000, 6, generator=torch.Generator().manual_seed(0))
    made = {name: shift(x, torch.Generator().manual_seed(1)) for name, (_, shift) in SHIFTS.items()}
    torch.testing.assert_close(made["wider"], 2 * x)
    assert float((made["moved"] - x).norm(dim=1).mean()) == pytest.approx(2, rel=1e-4)
    spreads = made["uneven"].std(0)
    assert float(spreads.min()) == pytest.approx(0.2, rel=0.05)
    assert float(spreads.max()) == pytest.approx(2, rel=0.05)
    assert float((made["heavy"].abs() > 6).double().mean()) > 1e-3 > float((x.abs() > 6).double().mean())


def test_a_teacher_agrees_with_itself():
    teachers = decaying_teachers(range(2), 5, 3, 4, 1.0)
    x = torch.randn(64, 5)
    assert _agreement(teachers, teachers, x).tolist() == [1, 1]


def test_more_samples_align_better_and_generalise_better():
    outcome = run(
        "generalisation",
        settings={
            "seeds": 4,
            "inputs": 8,
            "nodes": 3,
            "outputs": 6,
            "samples": (20, 400),
            "over": (2,),
            "steps": 2500,
        },
    )
    few, many = outcome.data["cells"]
    assert np.median(many["alignment"]) > np.median(few["alignment"])
    assert np.median(many["evaluation"]) < 0.1 * np.median(few["evaluation"])
    reads = [lambda cell, name=name: cell[name] for name in ("alignment", "evaluation")]
    assert rank_over_runs(outcome.data["cells"], *reads) < -0.5
