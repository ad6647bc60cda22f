"""Few samples: what the sets are made of, what students make of them, and what the claims say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tsdistill.errors import TsdistillError
from tsdistill.lab import run
from tsdistill.lab.engine import decaying_teachers
from tsdistill.lab.experiments.augmentation import claims
from tsdistill.lab.experiments.few_sample_students import (
    Augmentation,
    SeparateSamples,
    output_losses,
    samples_needed,
    training_set,
)
from tsdistill.lab.figures import figures

SMALL: dict[str, Any] = {
    "counts": (12, 60), "over": (1, 4), "seeds": 2, "inputs": 16, "nodes": 3, "outputs": 6, "steps": 1500,
    "rate": 0.05,
}  # fmt: skip


def test_teacher_aware_samples_lie_on_a_boundary_and_at_both_its_sides() -> None:
    settings = Augmentation(inputs=20, nodes=4)
    teacher = decaying_teachers([0], 20, 4, 50, 1.0, biases=False, dtype=torch.float64).module(0).eval()
    x = training_set(settings, teacher, "aware", 30, seed=0)
    assert x.shape == (30, 20)
    z = teacher[0](x).detach()
    on, above, below = z.split(10)
    node = on.abs().argmin(1, keepdim=True)
    assert on.gather(1, node).abs().max() < 1e-6
    sides = above.gather(1, node), below.gather(1, node)
    assert ((sides[0] > 0) != (sides[1] > 0)).all()
    assert torch.allclose(sides[0].abs(), torch.full_like(sides[0], 3.0), rtol=0.2)
    assert torch.allclose(sides[0], -sides[1], rtol=1e-5)


def test_other_sets_are_gaussian_samples_and_those_around_them() -> None:
    settings = Augmentation(inputs=40, spread=0.3)
    teacher = decaying_teachers([0], 40, 5, 50, 1.0, biases=False).module(0).eval()
    none = training_set(settings, teacher, "none", 300, seed=1)
    assert none.shape == (300, 40)
    assert abs(float(none.std()) - 1) < 0.03
    base, above, below = training_set(settings, teacher, "agnostic", 300, seed=1).split(100)
    assert torch.equal(base, none[:100])
    assert torch.allclose((above + below) / 2, base, atol=1e-5)
    assert torch.allclose((above - base).norm(dim=1), torch.tensor(0.3 * 40**0.5), rtol=0.02)
    fewer = training_set(settings, teacher, "none", 30, seed=1)
    assert torch.equal(fewer, none[:30])


def test_what_is_drawn_of_one_set_does_not_depend_on_the_others() -> None:
    sets = [torch.randn(2, 9, 3), torch.randn(2, 30, 3)]
    both, alone = SeparateSamples(sets, 5).rows(7), SeparateSamples(sets[1:], 5).rows(7)
    assert both.shape == (4, 7, 3)
    assert torch.equal(both[2:], alone)
    assert all((row == sets[0][0]).all(1).any() for row in both[0])


def test_the_n_that_is_needed() -> None:
    assert samples_needed([10, 100, 1000], [1.0, 0.1, 0.01], 0.1) == 100
    assert samples_needed([10, 100], [1.0, 0.01], 0.1) == pytest.approx(10**1.5)
    assert samples_needed([10, 100], [0.01, 0.02], 0.1) == 10
    assert samples_needed([10, 100], [1.0, 0.5], 0.1) is None
    assert samples_needed([10, 20, 40], [0.05, 1.0, 0.05], 0.1) == pytest.approx(
        20 * 2 ** (math.log(10) / math.log(20))
    )


def test_augmented_students_generalise_and_cells_are_kept(tmp_path: Path) -> None:
    said: list[tuple[int, int | None]] = []
    first = run(
        "augmentation", keep=tmp_path, tell=lambda _, done, total: said.append((done, total)), settings=SMALL
    )
    assert said[-1][0] == said[-1][1]
    assert len(list(tmp_path.iterdir())) == 2
    by_name = {row[:2]: dict(zip(first.tables[0].columns, row, strict=True)) for row in first.tables[0].rows}
    few = by_name[12, "4x"]
    assert float(str(few["aware"])) < float(str(few["none"]))
    assert float(str(by_name[60, "4x"]["none"])) < float(str(few["none"]))
    for each in first.data["cells"]:
        assert all(value < each["energy"] for rows in each["training"] for row in rows for value in row)
    again = run("augmentation", keep=tmp_path, settings=SMALL)
    assert again.data == first.data
    assert again.seconds < first.seconds
    assert [len(figure.axes) for figure in figures(first).values()] == [2]
    other = run("augmentation", settings={**SMALL, "counts": (60,), "over": (4,)})
    for mine, theirs in zip(
        other.data["cells"][0]["evaluation"][0], first.data["cells"][1]["evaluation"][1], strict=True
    ):
        assert mine == pytest.approx(theirs, rel=1e-3)  # fmt: skip


def test_precision_is_a_choice_of_its_own() -> None:
    few = {**SMALL, "steps": 60, "over": (2,)}
    single, double = (
        run("augmentation", settings={"dtype": dtype, **few}) for dtype in ("float32", "float64")
    )
    for mine, theirs in zip(
        single.data["cells"][0]["evaluation"], double.data["cells"][0]["evaluation"], strict=True
    ):
        assert torch.allclose(torch.tensor(mine), torch.tensor(theirs), rtol=1e-3)


def test_the_loss_is_half_the_mean_squared_distance() -> None:
    teachers = decaying_teachers([0, 1], 8, 3, 5, 1.0, biases=False, dtype=torch.float64)
    students = decaying_teachers([2, 3], 8, 3, 5, 1.0, biases=False, dtype=torch.float64)
    x = torch.randn(2, 50, 8, dtype=torch.float64)
    wanted = [
        (teachers.module(k)(x[k]) - students.module(k)(x[k])).square().sum(1).mean().item() / 2
        for k in (0, 1)
    ]
    assert output_losses(students, teachers, x).tolist() == pytest.approx(wanted)


def cells(aware: float, none: float = 0.3) -> list[dict[str, Any]]:
    rows = [
        [[none, none], [none, none], [aware, aware]],
        [[none / 30] * 2, [none / 20] * 2, [aware / 10] * 2],
    ]
    return [{"over": 1, "energy": 0.4, "evaluation": rows, "training": rows}]


def test_claims_follow_the_figures() -> None:
    settings = Augmentation(counts=(30, 300), over=(1,), seeds=2)
    assert [claim.held for claim in claims(settings, cells(0.01))] == [True, True, True]
    assert [claim.held for claim in claims(settings, cells(0.05))] == [False, True, False]
    assert [claim.held for claim in claims(settings, cells(0.5))] == [False, False, False]
    assert [claim.held for claim in claims(settings, cells(4, 30))] == [False, None, False]
    many = Augmentation(counts=(300, 600), over=(1,), seeds=2)
    assert claims(many, cells(0.01))[0].held is None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"counts": (30, 31)}, "counts 31"),
        ({"inputs": 0}, "inputs.* 0"),
        ({"decay": -1.0}, "decay.* -1"),
        ({"seeds": 10**9}, "--seeds"),
        ({"device": "cuda:77"}, "cuda:77"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(TsdistillError, match=words):
        run("augmentation", settings=wrong)
