"""The settings of the experiment population-gradient, and the result of one of its studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.lab.engine.result_cache import cached
from tsdistill.lab.experiment import Settings, not_negative, option, positive
from tsdistill.lab.results import Claim, Table


@dataclass(frozen=True)
class PopulationGradient(Settings):
    """Settings of population-gradient. All computations are in float64 on the CPU."""

    dtype: str = option("float64", "precision of the networks: float64 only")
    dimension: int = option(20, "input dimension d where the formula is checked")
    nodes: tuple[int, ...] = option((1, 2, 5, 10), "student nodes where the formula is checked")
    samples: int = option(1_000_000, "Gaussian samples of the largest Monte-Carlo estimate")
    dimensions: tuple[int, ...] = option((2, 5, 10, 20, 50, 100), "input dimensions of the one-node basin")
    deviations: tuple[float, ...] = option(
        (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
        "standard deviations of the starts, in lengths of the teacher",
    )
    starts: int = option(1000, "random starts for each dimension and deviation")
    time: float = option(60.0, "how long the gradient flow of one node is followed")
    symmetric: tuple[int, ...] = option((2, 5, 10), "numbers of nodes whose symmetry is broken")
    perturbations: tuple[float, ...] = option(
        (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8), "sizes of what breaks the symmetry"
    )
    repeats: int = option(40, "random perturbations of each size")
    searches: int = option(200, "random starts of the search for critical points")

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "dimension", "nodes", "samples", "dimensions", "deviations", "starts", "time")
        positive(self, "symmetric", "perturbations", "repeats")
        not_negative(self, "searches")
        if self.dtype != "float64" or self.device != "cpu":
            raise TsdistillError(
                "population-gradient is solved in float64 on the cpu; leave --dtype and --device"
            )
        for name, least in (("symmetric", 2), ("dimensions", 2), ("samples", 1000)):
            value = getattr(self, name)
            if min(value if isinstance(value, tuple) else (value,)) < least:
                raise TsdistillError(f"--{name} {value}: give {least} or more")
        if self.dimension * max(self.nodes) > 20_000:
            raise TsdistillError("--dimension times --nodes is above 20,000; give fewer or smaller ones")


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
