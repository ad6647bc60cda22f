"""The settings of the experiment population-gradient, and the result of one of its studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.lab.engine.result_cache import cached
from tsdistill.lab.experiment import ExactSettings
from tsdistill.lab.results import Claim, Table
from tsdistill.options.option_fields import option, written


@dataclass(frozen=True)
class PopulationGradient(ExactSettings):
    """Settings of population-gradient."""

    dimension: int = option(20, "Input dimension d where the formula is checked", above=0)
    nodes: tuple[int, ...] = option((1, 2, 5, 10), "Student nodes where the formula is checked", above=0)
    samples: int = option(1_000_000, "Gaussian samples of the largest Monte-Carlo estimate", least=1000)
    dimensions: tuple[int, ...] = option(
        (2, 5, 10, 20, 50, 100), "Input dimensions of the one-node basin", least=2
    )
    deviations: tuple[float, ...] = option(
        (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
        "Standard deviations of the starts, in lengths of the teacher",
        above=0,
    )
    starts: int = option(1000, "Random starts for each dimension and deviation", above=0)
    time: float = option(60.0, "How long the gradient flow of one node is followed", above=0)
    symmetric: tuple[int, ...] = option((2, 5, 10), "Numbers of nodes whose symmetry is broken", least=2)
    perturbations: tuple[float, ...] = option(
        (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8), "Sizes of what breaks the symmetry", above=0
    )
    repeats: int = option(40, "Random perturbations of each size", above=0)
    searches: int = option(200, "Random starts of the search for critical points", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dimension * max(self.nodes) > 20_000:
            raise TsdistillError(
                f"{written('dimension')} times {written('nodes')} is above 20,000; give fewer or smaller ones"
            )


@dataclass(frozen=True)
class StudyResult:
    """Claims, tables and numbers of one study, as in an `Outcome`."""

    claims: tuple[Claim, ...]
    tables: tuple[Table, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def cached_study(
    folder: Path | None,
    name: str,
    settings: PopulationGradient,
    study: Callable[[PopulationGradient], StudyResult],
) -> StudyResult:
    """The result of ``study``, or that of the same study and settings in ``folder`` (see `cached`)."""
    stored = cached(folder, name, asdict(settings), lambda: asdict(study(settings)))
    tables = (
        Table(each["title"], tuple(each["columns"]), tuple(map(tuple, each["rows"])))
        for each in stored["tables"]
    )
    claims = tuple(Claim(**each) for each in stored["claims"])
    return StudyResult(claims, tuple(tables), stored["data"], tuple(stored["notes"]))


def four_decimals(values: Tensor) -> Any:
    """The values as nested lists, rounded to four decimals: more than a figure shows."""
    return (values * 1e4).round().div(1e4).tolist()
