"""The experiment population-gradient: the gradient for Gaussian input, basins and critical points."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tsdistill.lab.engine import cached
from tsdistill.lab.experiment import Context, Experiment
from tsdistill.lab.experiments.population import (
    closed_form,
    critical_manifolds,
    one_node_convergence,
    symmetry_breaking,
    two_node_phase,
)
from tsdistill.lab.experiments.population.study import PopulationGradient
from tsdistill.lab.results import Outcome

STUDIES = {
    "formula": closed_form.study,
    "one node": one_node_convergence.study,
    "two nodes": two_node_phase.study,
    "symmetry": symmetry_breaking.study,
    "manifolds": critical_manifolds.study,
}


def run(settings: PopulationGradient, context: Context) -> Outcome:
    """Run every study; those that a stopped run finished are read from ``context.keep``."""
    parts = []
    for place, (name, study) in enumerate(STUDIES.items()):
        context.tell(name, place, len(STUDIES))
        file = f"population-{name.replace(' ', '-')}"
        make = partial(_fields, study, settings)
        parts.append(Outcome.from_dict(cached(context.keep, file, settings.to_dict(), make)))
    context.tell("done", len(STUDIES), len(STUDIES))
    return Outcome(
        name="population-gradient",
        settings={},
        claims=tuple(claim for part in parts for claim in part.claims),
        tables=tuple(table for part in parts for table in part.tables),
        data={key: value for part in parts for key, value in part.data.items()},
        notes=tuple(note for part in parts for note in part.notes),
    )


def _fields(study: Callable[[PopulationGradient], Outcome], settings: PopulationGradient) -> dict[str, Any]:
    return study(settings).to_dict()


EXPERIMENT = Experiment(
    settings=PopulationGradient,
    quick={
        "samples": 200_000,
        "dimensions": (2, 10, 100),
        "deviations": (0.01, 0.1, 1.0, 3.0),
        "starts": 200,
        "symmetric": (2, 5),
        "perturbations": (1e-2, 1e-4, 1e-6),
        "repeats": 20,
        "searches": 75,
    },
    run=run,
)
