"""The settings of an experiment, the table of experiments, and `run`, which runs one by its name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from tsdistill.errors import TsdistillError
from tsdistill.lab.experiments import EXPERIMENTS
from tsdistill.lab.results import Outcome
from tsdistill.runtime.progress import Progress

DTYPES = ("float32", "float64")


def option(default: Any, text: str) -> Any:
    """A field of a `Settings` class with the sentence that the command line shows for it."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """The settings of every experiment; each experiment adds fields in a subclass (see `option`).

    Fields are numbers, text, flags, or tuples of one of these types. ``__post_init__`` checks them with
    `positive`, `not_negative` and `one_of`, so that a wrong value is reported before any work is done.
    """

    seed: int = option(0, "seed of all random draws")
    device: str = option("cpu", "device of the tensors: cpu, cuda, cuda:1")
    dtype: str = option("float32", "precision of the networks: float32 or float64")

    def __post_init__(self) -> None:
        one_of(self, "dtype", DTYPES)


def positive(settings: Settings, *names: str) -> None:
    """Raise unless each value, or each item of a list, is above 0.

    Raises:
        TsdistillError: one is not, or a list is empty.
    """
    _check(settings, names, lambda value: value > 0, "above 0")


def not_negative(settings: Settings, *names: str) -> None:
    """Raise unless each value, or each item of a list, is 0 or more.

    Raises:
        TsdistillError: one is, or a list is empty.
    """
    _check(settings, names, lambda value: value >= 0, "0 or more")


def one_of(settings: Settings, name: str, known: Sequence[str]) -> None:
    """Raise unless the value is one of ``known``.

    Raises:
        TsdistillError: it is not.
    """
    value = getattr(settings, name)
    if value not in known:
        raise TsdistillError(f"{flag(name)} {value}: there is {', '.join(known)}")


def flag(name: str) -> str:
    """A field's name as an option of the command line."""
    return "--" + name.replace("_", "-")


def _check(settings: Settings, names: Sequence[str], holds: Any, wanted: str) -> None:
    for name in names:
        setting = getattr(settings, name)
        values = setting if isinstance(setting, tuple) else (setting,)
        if not values:
            raise TsdistillError(f"{flag(name)}: the list is empty; give at least one number")
        for value in values:
            if not math.isfinite(value) or not holds(value):
                raise TsdistillError(f"{flag(name)} {value:g}: give numbers {wanted}")


EXPERIMENT_PACKAGE = "tsdistill.lab.experiments"


@dataclass(frozen=True)
class Context:
    """The surroundings of a run.

    Attributes:
        tell: progress callback.
        keep: folder of finished parts, from which a stopped run resumes; ``None``: none are stored.
    """

    tell: Progress
    keep: Path | None = None


@dataclass(frozen=True)
class Experiment:
    """One experiment; every module of ``lab.experiments`` that has one calls it ``EXPERIMENT``.

    Attributes:
        settings: the class of its settings.
        quick: fields that ``--quick`` sets, for a run within two minutes on two cores.
        run: runs it; the function `run` adds ``seconds`` to the outcome.
    """

    settings: type[Settings]
    quick: Mapping[str, Any]
    run: Callable[[Any, Context], Outcome]


def experiment(name: str) -> Experiment:
    """The experiment called ``name``.

    Raises:
        TsdistillError: there is none of that name; the message lists all.
    """
    if name not in EXPERIMENTS:
        near = get_close_matches(name, EXPERIMENTS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise TsdistillError(
            f"there is no experiment called {name!r}: {hint}there are {', '.join(EXPERIMENTS)}"
        )
    definition: Experiment = import_module(f"{EXPERIMENT_PACKAGE}.{name.replace('-', '_')}").EXPERIMENT
    return definition


def run(
    name: str,
    *,
    quick: bool = False,
    keep: str | Path | None = None,
    tell: Progress | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run one of the experiments behind the theory.

    Args:
        name: name of the experiment, such as ``two-layer``; `EXPERIMENTS` lists all.
        quick: run the reduced version, which ends within two minutes.
        keep: folder of finished parts, from which the same call resumes after a stop.
        tell: called with a phase, the units done and their total.
        settings: fields of the experiment's settings, such as ``{"seed": 1, "decay": (0.0, 1.0)}``.

    Returns:
        the claims, tables and numbers; `tsdistill.lab.figures.save_outcome` writes them and draws figures.

    Raises:
        TsdistillError: an unknown experiment or setting, an invalid value, or not enough memory.
    """
    definition = experiment(name)
    known = [each.name for each in fields(definition.settings)]
    for setting in settings or {}:
        if setting not in known:
            options = ", ".join(map(flag, known))
            raise TsdistillError(f"{name} has no setting {setting!r}: there are {options}")
    chosen = {**(definition.quick if quick else {}), **(settings or {})}
    configured = definition.settings(**{key: _tupled(value) for key, value in chosen.items()})
    start = time.perf_counter()
    context = Context(tell or (lambda phase, done, total: None), None if keep is None else Path(keep))
    outcome = definition.run(configured, context)
    spent = round(time.perf_counter() - start, 2)
    return replace(outcome, name=name, settings=asdict(configured), seconds=spent)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
