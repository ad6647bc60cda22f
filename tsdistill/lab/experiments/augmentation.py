"""Few training samples: augmented on the teacher's boundaries, in random directions, or not at all."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tsdistill.lab import engine
from tsdistill.lab.experiment import Context, Experiment
from tsdistill.lab.experiments.few_sample_students import (
    EVALUATION_SAMPLES,
    STRATEGIES,
    Augmentation,
    Cell,
    few_sample_cell,
    mean_losses,
    samples_needed,
)
from tsdistill.lab.results import Claim, Outcome, Table

PAPER = "arXiv 1909.13458, Theorem 5 and figure 9"
FEWER, SMALL = 10.0, 0.1
"""Asked by the claims: how many times lower a loss is, and the largest loss relative to that of output 0:
an order of magnitude each."""


def run(settings: Augmentation, context: Context) -> Outcome:
    """Train students on N samples and measure their loss on fresh samples.

    The paper's setting (`PAPER`): two-layer ReLU networks, SGD. Samples are augmented once, before the
    training: ``none`` is N Gaussian ones; ``agnostic`` x, x + ε u and x − ε u of N/3, u random and
    orthonormal; ``aware`` the point on a teacher node's boundary and one at either side along its normal, of
    N/3. All N, augmentations and seeds of an over-realisation are one stack of networks and one cached cell.

    Raises:
        TsdistillError: the largest stack does not fit into memory.
    """
    where = engine.training_device(
        settings, len(settings.counts) * len(STRATEGIES) * settings.seeds, settings.inputs, (settings.nodes,),
        (settings.nodes * max(settings.over),), samples=EVALUATION_SAMPLES, own=True,
        reduce="--seeds, --counts, --over or --inputs",
    )  # fmt: skip
    at = engine.observation_steps(settings.steps, 12)
    cells = engine.sweep(
        context, "augmentation", settings.key("over", "target"), [{"over": over} for over in settings.over],
        lambda tell, over: few_sample_cell(settings, over, at, tell, where), at,
    )  # fmt: skip
    return Outcome(
        "augmentation",
        {},
        claims(settings, cells),
        (_losses(settings, cells), _needs(settings, cells)),
        {"counts": list(settings.counts), "target": settings.target, "cells": cells},
        (
            "N counts every training sample, those that augmentation made included: none has three times as "
            "many base samples.",
            f"A student that gives 0 has a loss of {cells[0]['energy']:.3g}; losses are geometric means over "
            "seeds.",
        ),
    )


def claims(settings: Augmentation, cells: Sequence[Cell]) -> tuple[Claim, ...]:
    """The claims of the theory on the cells, and whether they held."""
    return _lower(settings, cells), _fewer(settings, cells), _sound(settings, cells)


def _lower(settings: Augmentation, cells: Sequence[Cell]) -> Claim:
    few = [k for k, count in enumerate(settings.counts) if count <= settings.inputs]
    against = {
        other: [mean_losses(each, other)[k] / mean_losses(each, "aware")[k] for each in cells for k in few]
        for other in ("none", "agnostic")
    }
    measured = ", ".join(
        f"{min(ratios):.1f} to {max(ratios):.1f} times lower than {other}"
        for other, ratios in against.items()
        if ratios
    )
    return Claim(
        "with few samples, those moved by the teacher's boundaries lower the evaluation loss by orders of "
        "magnitude",
        PAPER,
        f"N up to d = {settings.inputs}: {measured}; held from {FEWER:g} times on"
        if few
        else f"no N is up to d = {settings.inputs}",
        min(map(min, against.values())) >= FEWER if few else None,
    )


def _fewer(settings: Augmentation, cells: Sequence[Cell]) -> Claim:
    by_width = {each["over"]: _needed(settings, each) for each in cells}
    measured = "; ".join(
        f"{over}x: " + ", ".join(f"{name} {_words(n, settings)}" for name, n in by_name.items())
        for over, by_name in by_width.items()
    )
    known = [by_name for by_name in by_width.values() if any(n is not None for n in by_name.values())]
    reached = [{name: math.inf if n is None else n for name, n in by_name.items()} for by_name in known]
    ends = [n["aware"] < min(n["none"], n["agnostic"]) for n in reached]
    return Claim(
        "with teacher-aware samples fewer are needed for a given evaluation loss than with random directions "
        "or without augmentation",
        PAPER,
        f"N for {settings.target:g} of the loss of giving 0: {measured}",
        all(ends) if known else None,
    )


def _sound(settings: Augmentation, cells: Sequence[Cell]) -> Claim:
    worst = {
        name: max(max(mean_losses(each, name)) / each["energy"] for each in cells) for name in STRATEGIES
    }
    measured = ", ".join(f"{name} {value:.2g}" for name, value in worst.items())
    return Claim(
        "with teacher-aware samples even a few dozen do not over-fit",
        f"{PAPER}; the talk",
        f"largest evaluation loss over all N from {min(settings.counts)} on, as a part of that of giving 0: "
        f"{measured}; held if teacher-aware stays below {SMALL:g}",
        worst["aware"] < SMALL,
    )


def _needed(settings: Augmentation, cell: Cell) -> dict[str, float | None]:
    target = settings.target * cell["energy"]
    order = sorted(range(len(settings.counts)), key=settings.counts.__getitem__)
    counts = [settings.counts[k] for k in order]
    return {
        name: samples_needed(counts, [mean_losses(cell, name)[k] for k in order], target)
        for name in STRATEGIES
    }


def _words(n: float | None, settings: Augmentation) -> str:
    if n is None:
        return f"more than {max(settings.counts)}"
    return f"{min(settings.counts)} or fewer" if n <= min(settings.counts) else f"{n:.0f}"


def _losses(settings: Augmentation, cells: Sequence[Cell]) -> Table:
    rows: list[tuple[str | int | float | None, ...]] = []
    for k, count in enumerate(settings.counts):
        for each in cells:
            none, agnostic, aware = (mean_losses(each, name)[k] for name in STRATEGIES)
            shown = (f"{value:.2g}" for value in (none, agnostic, aware))
            ratios = (f"{none / aware:.1f}", f"{agnostic / aware:.1f}")
            rows.append((count, f"{each['over']}x", *shown, *ratios))
    return Table(
        "Evaluation loss",
        ("N", "over-realised", *STRATEGIES, "none / aware", "agnostic / aware"),
        tuple(rows),
    )


def _needs(settings: Augmentation, cells: Sequence[Cell]) -> Table:
    return Table(
        f"Samples needed for {settings.target:g} of the loss of a student that gives 0",
        ("over-realised", *STRATEGIES),
        tuple(
            (f"{each['over']}x", *(_words(n, settings) for n in _needed(settings, each).values()))
            for each in cells
        ),
    )


EXPERIMENT = Experiment(Augmentation, {"counts": (30, 60, 270), "over": (1, 10), "seeds": 3}, run)
