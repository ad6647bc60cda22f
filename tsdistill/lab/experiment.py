"""The settings of an experiment, the table of experiments, and `run`, which runs one by its name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from tsdistill.errors import TsdistillError
from tsdistill.lab.experiments import EXPERIMENTS
from tsdistill.lab.results import Outcome
from tsdistill.options.option_fields import LARGEST_SEED, OptionSet, option
from tsdistill.runtime.progress import Progress


@dataclass(frozen=True)
class Settings(OptionSet):
    """The settings of every experiment; each experiment adds fields in a subclass.

    Fields are numbers, text, flags, or tuples of one of these types, made by
    `tsdistill.options.option_fields.option`, so that a wrong value is reported before any work is done.
    """

    seed: int = option(0, "Seed of all random draws", least=0, most=LARGEST_SEED)
    device: str = option("cpu", "Device of the tensors: cpu, cuda, cuda:1")
    dtype: str = option("float32", "Precision of the networks", choices=("float32", "float64"))

    @classmethod
    def words(cls) -> str:
        """What these options are of, for messages."""
        return "lab"

    def key(self, *without: str) -> dict[str, Any]:
        """The settings that a result depends on, by name: all but the device and those in ``without``."""
        return {name: value for name, value in self.to_dict().items() if name not in ("device", *without)}


@dataclass(frozen=True)
class ExactSettings(Settings):
    """The settings of an experiment that computes in float64 on the CPU only."""

    device: str = option("cpu", "Device of the tensors", choices=("cpu",))
    dtype: str = option("float64", "Precision of the networks", choices=("float64",))


@dataclass(frozen=True)
class StudentSettings(Settings):
    """The settings of experiments that train students on the outputs of teachers by SGD."""

    outputs: int = option(10, "Dimension c of the output", above=0)
    steps: int = option(50_000, "Steps of SGD", above=0)
    batch: int = option(16, "Samples a step", above=0)
    rate: float = option(0.1, "Step size", above=0)
    start: float = option(0.5, "Norm of fan-in and fan-out weights of a student node at its start", above=0)


@dataclass(frozen=True)
class SweepSettings(StudentSettings):
    """The settings of experiments whose students differ in width, with one kind of teacher."""

    nodes: int = option(5, "Teacher nodes m", above=0)
    over: tuple[int, ...] = option(
        (1, 2, 5, 10), "Over-realisation: student nodes for each teacher node", above=0
    )
    decay: float = option(1.0, "Strength decay p: fan-out norm of teacher node j is 1/j^p", least=0)


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
    definition: Experiment = import_module(f"tsdistill.lab.experiments.{name.replace('-', '_')}").EXPERIMENT
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
    configured = definition.settings.of({**(definition.quick if quick else {}), **(settings or {})})
    start = time.perf_counter()
    context = Context(tell or (lambda *_: None), None if keep is None else Path(keep))
    outcome = definition.run(configured, context)
    spent = round(time.perf_counter() - start, 2)
    return replace(outcome, name=name, settings=configured.to_dict(), seconds=spent)
