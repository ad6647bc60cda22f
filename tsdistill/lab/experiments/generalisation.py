"""Alignment on the training inputs as a predictor of the loss on other inputs, over many runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsdistill.lab import engine
from tsdistill.lab.engine.node_statistics import mean, rank_correlation, rounded
from tsdistill.lab.experiment import Context, Experiment, SweepSettings
from tsdistill.lab.layers.theorem_quantities import recovery_precision
from tsdistill.lab.results import Claim, Outcome, Table
from tsdistill.options.option_fields import option

EVALUATION_SAMPLES = 4096
"""Fresh samples of the evaluation loss and of each shift: shares are exact to 1 %."""
TRAINING_DRAW, EVALUATION_DRAW, SHIFT_DRAW = 21, 22, 23
"""Keys of the random streams: training, evaluation, shifts."""
Cell = dict[str, Any]


@dataclass(frozen=True)
class Generalisation(SweepSettings):
    """Runs that differ in samples, width and seed."""

    seeds: int = option(24, "Teachers and students drawn for each cell", above=0)
    inputs: int = option(20, "Dimension d of the Gaussian input", above=0)
    samples: tuple[int, ...] = option((50, 100, 200, 400, 1000), "Training samples N", above=0)
    steps: int = 30_000


def run(settings: Generalisation, context: Context) -> Outcome:
    """Train a cell for every number of samples and over-realisation, and correlate over all runs.

    Raises:
        TsdistillError: the largest stack does not fit into memory.
    """
    where = engine.training_device(
        settings, settings.seeds, settings.inputs, (settings.nodes,), (settings.nodes * max(settings.over),),
        samples=EVALUATION_SAMPLES, own=True, reduce="--seeds, --over or --nodes",
    )  # fmt: skip
    sizes = [{"samples": samples, "over": over} for samples in settings.samples for over in settings.over]
    cells = engine.sweep(
        context, "generalisation", settings.key("samples", "over"), sizes,
        lambda _, samples, over: _cell(settings, samples, over, where),
    )  # fmt: skip
    return Outcome(
        "generalisation",
        {},
        claims_of(cells),
        tables_of(cells),
        {"cells": cells},
        (
            "alignment: mean over teacher nodes of the best correlation with a student node, training inputs",
            "shifted inputs: " + ", ".join(f"{name} ({text})" for name, (text, _) in SHIFTS.items()),
            "agreement: share of inputs on which the largest output is the teacher's",
        ),
    )


def _apart(x: Tensor, generator: torch.Generator) -> Tensor:
    direction = torch.randn(x.shape[1], generator=generator).to(x)
    return x + 2 * direction / direction.norm()


def _uneven(x: Tensor, generator: torch.Generator) -> Tensor:
    spread = torch.linspace(0.2, 2, x.shape[1])[torch.randperm(x.shape[1], generator=generator)]
    return x * spread.to(x)


def _heavy(x: Tensor, generator: torch.Generator) -> Tensor:
    freedom = 3
    chi = torch.randn(len(x), freedom, generator=generator).square().sum(1, keepdim=True)
    return x * (freedom / chi).sqrt().to(x)


SHIFTS: dict[str, tuple[str, Callable[[Tensor, torch.Generator], Tensor]]] = {
    "wider": ("x times 2", lambda x, _: 2 * x),
    "moved": ("x plus a vector of norm 2", _apart),
    "uneven": ("coordinates times 0.2 to 2", _uneven),
    "heavy": ("a t distribution with 3 degrees of freedom", _heavy),
}
"""Kinds of shifted inputs: a description, and the function that makes them of Gaussian inputs."""


def _cell(settings: Generalisation, samples: int, over: int, where: Mapping[str, Any]) -> Cell:
    """Runs of one number of samples and width."""
    seeds = range(1000 * settings.seed, 1000 * settings.seed + settings.seeds)
    d, m, c = settings.inputs, settings.nodes, settings.outputs
    teachers = engine.decaying_teachers(seeds, d, m, c, settings.decay, **where)
    students = engine.random_students(seeds, d, (m * over,), c, scale=settings.start, **where)
    draw = engine.GaussianSamples(TRAINING_DRAW + settings.seed, d, networks=settings.seeds, **where)
    x = draw.rows(samples)
    engine.train(
        students,
        teachers,
        engine.FiniteSamples(x, settings.seed),
        steps=settings.steps,
        batch=settings.batch,
        rate=lambda step: settings.rate * (1 if step < 0.7 * settings.steps else 0.3),
    )
    fresh = engine.GaussianSamples(EVALUATION_DRAW + settings.seed, d, **where).rows(EVALUATION_SAMPLES)
    matched, _ = engine.best_correlations(teachers, students, x)
    result = {
        "samples": samples,
        "over": over,
        "alignment": rounded(matched.double().mean(1), 9),
        "precision": rounded(recovery_precision(teachers, students).mean(1)),
        "training": rounded(engine.relative_losses(teachers, students, x)),
        "evaluation": rounded(engine.relative_losses(teachers, students, fresh)),
        "agreement": rounded(_agreement(teachers, students, fresh)),
        "shifted": {},
    }
    for name, (_, shift) in SHIFTS.items():
        moved = shift(fresh, engine.generator_of(SHIFT_DRAW, settings.seed))
        result["shifted"][name] = {
            "loss": rounded(engine.relative_losses(teachers, students, moved)),
            "agreement": rounded(_agreement(teachers, students, moved)),
        }
    return result


def _agreement(teachers: engine.Networks, students: engine.Networks, x: Tensor) -> Tensor:
    """Share of samples on which the largest output of both networks is the same ``[S]``."""
    return torch.stack(
        [
            (teachers.some([s])(x)[0].argmax(1) == students.some([s])(x)[0].argmax(1)).double().mean()
            for s in range(students.count)
        ]
    )


EXPERIMENT = Experiment(
    settings=Generalisation,
    quick={"seeds": 8, "samples": (50, 100, 200, 1000), "over": (1, 2, 5), "steps": 6000},
    run=run,
)


TALK = "the talk: a student with the teacher's inner structure agrees with it on new inputs"
STRONG_RANK = 0.8
"""Absolute rank correlation over all runs from which on one figure counts as predicting another:
64 % of the variance of the ranks."""
CLEAR_RANK = 0.5
"""The same within cells, and at equal training loss, where less differs between runs."""
FEWEST_RUNS = 5
"""Runs of a cell below which a rank correlation within it says too little: of four random runs one in three
is 0.8 or more in size."""

Cells = Sequence[dict[str, Any]]
Read = Callable[[dict[str, Any]], Sequence[float]]


def rank_over_runs(cells: Cells, first: Read, second: Read) -> float:
    """Spearman's coefficient over all runs."""
    return rank_correlation(
        [value for cell in cells for value in first(cell)],
        [value for cell in cells for value in second(cell)],
    )


def rank_within_cells(cells: Cells, first: Read, second: Read) -> float:
    """Mean over cells of Spearman's coefficient among runs that differ only in the seed."""
    return mean(
        [rank_correlation(first(cell), second(cell)) for cell in cells if len(first(cell)) >= FEWEST_RUNS]
    )


def partial_rank(cells: Cells, first: Read, second: Read, third: Read) -> float:
    """Partial rank correlation of ``first`` and ``second`` at fixed ``third``."""
    a, b, c = (
        rank_over_runs(cells, first, second),
        rank_over_runs(cells, first, third),
        rank_over_runs(cells, second, third),
    )
    left = (1 - b * b) * (1 - c * c)
    return (a - b * c) / math.sqrt(left) if left > 0 else math.nan


def _of(name: str) -> Read:
    return lambda cell: cell[name]


def _shifted(shift: str, what: str) -> Read:
    return lambda cell: cell["shifted"][shift][what]


ALIGNMENT, TRAINING, EVALUATION, AGREEMENT = map(_of, ("alignment", "training", "evaluation", "agreement"))


def claims_of(cells: Cells) -> tuple[Claim, ...]:
    """The claims: alignment as a predictor, alone, against the training loss, and within cells."""
    runs = sum(len(cell["alignment"]) for cell in cells)
    aligned, trained = (
        rank_over_runs(cells, ALIGNMENT, EVALUATION),
        rank_over_runs(cells, TRAINING, EVALUATION),
    )
    partial = partial_rank(cells, ALIGNMENT, EVALUATION, TRAINING)
    inside, other = (
        rank_within_cells(cells, ALIGNMENT, EVALUATION),
        rank_within_cells(cells, TRAINING, EVALUATION),
    )
    return (
        Claim(
            "alignment on the training inputs predicts the loss on fresh inputs",
            TALK,
            f"rank correlation {aligned:.2f} over {runs} runs (asked: below -{STRONG_RANK})",
            aligned < -STRONG_RANK,
        ),
        Claim(
            "it predicts better than the training loss does",
            TALK,
            f"training loss: {trained:.2f}; alignment at equal training loss: {partial:.2f} (asked: "
            f"stronger, and below -{CLEAR_RANK})",
            abs(aligned) > abs(trained) and partial < -CLEAR_RANK,
        ),
        Claim(
            "it predicts among runs that differ only in their seed",
            TALK,
            f"mean rank correlation within the {len(cells)} cells {inside:.2f}; training loss {other:.2f} "
            f"(asked: below -{CLEAR_RANK})",
            None if math.isnan(inside) else inside < -CLEAR_RANK,
        ),
        *_on_shifted(cells),
    )


def _on_shifted(cells: Cells) -> tuple[Claim, ...]:
    agreement = {
        name: rank_over_runs(cells, ALIGNMENT, _shifted(name, "agreement")) for name in cells[0]["shifted"]
    }
    loss = {name: rank_over_runs(cells, ALIGNMENT, _shifted(name, "loss")) for name in cells[0]["shifted"]}
    agreement_text = ", ".join(f"{name} {value:.2f}" for name, value in agreement.items())
    loss_text = ", ".join(f"{name} {value:.2f}" for name, value in loss.items())
    aligned = [_spread(cell) for cell in cells]
    high = [value for values in aligned for value in values]
    return (
        Claim(
            "alignment on the training inputs predicts agreement with the teacher on shifted inputs",
            TALK,
            f"rank correlations with agreement: {agreement_text} (asked: above {STRONG_RANK} in all); "
            f"with the loss: {loss_text}",
            min(agreement.values()) > STRONG_RANK,
        ),
        Claim(
            "well-aligned students (alignment above 0.99) agree with the teacher there",
            TALK,
            f"{len(high)} runs: least agreement of the shifts {min(high):.1%}, median {np.median(high):.1%} "
            "(asked: a median above 95%)"
            if high
            else "no run has an alignment above 0.99",
            bool(np.median(high) > 0.95) if high else None,
        ),
    )


def _spread(cell: dict[str, Any]) -> list[float]:
    """The least agreement over the shifts of each well-aligned run."""
    rows = zip(*(each["agreement"] for each in cell["shifted"].values()), strict=True)
    return [min(row) for row, aligned in zip(rows, cell["alignment"], strict=True) if aligned > 0.99]


def tables_of(cells: Cells) -> tuple[Table, ...]:
    """Medians of each cell, and rank correlations of predictors with results."""
    shifts = tuple(cells[0]["shifted"])
    medians = Table(
        "medians over seeds (losses by the teacher's energy)",
        ("N", "over", "alignment", "training loss", "loss on fresh inputs", "agreement", *shifts),
        tuple(
            (
                cell["samples"],
                f"{cell['over']}x",
                *(
                    float(np.median(cell[name]))
                    for name in ("alignment", "training", "evaluation", "agreement")
                ),
                *(float(np.median(cell["shifted"][name]["agreement"])) for name in shifts),
            )
            for cell in cells
        ),
    )
    targets: dict[str, Read] = {"loss on fresh inputs": EVALUATION, "agreement on fresh inputs": AGREEMENT}
    targets |= {f"agreement, {name}": _shifted(name, "agreement") for name in shifts}
    predictions = Table(
        "rank correlations over all runs (within cells)",
        ("of", "alignment", "training loss", "alignment at equal training loss"),
        tuple(
            (
                what,
                *(
                    f"{rank_over_runs(cells, by, read):.2f} ({rank_within_cells(cells, by, read):.2f})"
                    for by in (ALIGNMENT, TRAINING)
                ),
                f"{partial_rank(cells, ALIGNMENT, read, TRAINING):.2f}",
            )
            for what, read in targets.items()
        ),
    )
    return medians, predictions
