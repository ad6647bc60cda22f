"""What an experiment is, and how one is run by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from tsdistill.errors import TsdistillError
from tsdistill.lab.outcome import Outcome
from tsdistill.lab.settings import Settings, flag

Tell = Callable[[str, int, int], None]
"""Told how far a phase is: its name, what is done, what there is to do."""

HOME = "tsdistill.lab.experiments"

EXPERIMENTS = {
    "population-gradient": "The analytic gradient for Gaussian input, its basins and critical points.",
    "gradient-rule": "Lemma 1: the gradient as a combination of teacher and student activations.",
    "boundaries": "Student boundaries that move onto the teacher's, in two dimensions.",
    "two-layer": "L-shaped curves and recovery over strength decay and over-realisation.",
    "deep": "The L-shaped curve in every layer of a deep student.",
    "specialization": "At small gradient: who is aligned with whom, and what can be pruned.",
    "strong-first": "Strong teacher nodes are learnt first and gather more student nodes.",
    "augmentation": "Few samples: teacher-aware against teacher-agnostic against none.",
    "connectivity": "Two students joined by a polyline of low error.",
    "cifar10": "A pruned ConvNet teacher and over-realised students, on images.",
    "generalisation": "Does alignment on the training inputs predict what happens elsewhere?",
}


@dataclass(frozen=True)
class Context:
    """What an experiment is given beside its settings.

    Attributes:
        tell: told of the progress.
        keep: a folder for what is finished already, so that a run that was stopped goes on; ``None``: nothing
            is kept.
    """

    tell: Tell
    keep: Path | None = None


@dataclass(frozen=True)
class Experiment:
    """One result of the talk, runnable; every module of ``lab.experiments`` has one called ``EXPERIMENT``.

    Attributes:
        settings: the class of its settings.
        quick: fields that ``--quick`` sets so that it ends within two minutes on two cores.
        run: does it. ``seconds`` of the outcome is filled in by `run`.
    """

    settings: type[Settings]
    quick: Mapping[str, Any]
    run: Callable[[Any, Context], Outcome]


def experiment(name: str) -> Experiment:
    """The experiment called ``name``.

    Raises:
        TsdistillError: there is none; the message lists them.
    """
    if name not in EXPERIMENTS:
        near = get_close_matches(name, EXPERIMENTS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise TsdistillError(
            f"there is no experiment called {name!r}: {hint}there are {', '.join(EXPERIMENTS)}"
        )
    found: Experiment = import_module(f"{HOME}.{name.replace('-', '_')}").EXPERIMENT
    return found


def run(
    name: str,
    *,
    quick: bool = False,
    keep: str | Path | None = None,
    tell: Tell | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run one of the experiments behind the theory.

    Args:
        name: of the experiment, such as ``two-layer``; `EXPERIMENTS` lists them.
        quick: the reduced version, which ends within two minutes.
        keep: a folder for what is finished, so that the same call goes on where it was stopped.
        tell: told of the progress.
        settings: fields of the experiment's settings, such as ``{"seed": 1, "decay": (0.0, 1.0)}``.

    Returns:
        the claims, tables and numbers; `tsdistill.lab.figures.save_outcome` writes them and draws figures.

    Raises:
        TsdistillError: no such experiment or setting, a value that makes no sense, or more memory than there
            is.
    """
    found = experiment(name)
    known = [each.name for each in fields(found.settings)]
    for given in settings or {}:
        if given not in known:
            options = ", ".join(map(flag, known))
            raise TsdistillError(f"{name} has no setting {given!r}: there are {options}")
    chosen = {**(found.quick if quick else {}), **(settings or {})}
    made = found.settings(**{key: _tupled(value) for key, value in chosen.items()})
    start = time.perf_counter()
    context = Context(tell or (lambda phase, done, total: None), None if keep is None else Path(keep))
    outcome = found.run(made, context)
    spent = round(time.perf_counter() - start, 2)
    return replace(outcome, name=name, settings=asdict(made), seconds=spent)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
