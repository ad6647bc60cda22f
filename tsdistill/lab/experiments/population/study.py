"""The settings of the experiment population-gradient, and the result of one of its studies."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from tsdistill.errors import TsdistillError
from tsdistill.files import replacing
from tsdistill.lab.experiment import Settings, not_negative, option, positive
from tsdistill.lab.results import Claim, Table


@dataclass(frozen=True)
class PopulationGradient(Settings):
    """Settings of population-gradient. Everything is solved in float64 on the processor."""

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
            given = getattr(self, name)
            if min(given if isinstance(given, tuple) else (given,)) < least:
                raise TsdistillError(f"--{name} {given}: give {least} or more")
        if self.dimension * max(self.nodes) > 20_000:
            raise TsdistillError("--dimension times --nodes is above 20,000; give fewer or smaller ones")


@dataclass(frozen=True)
class Part:
    """Claims, tables and numbers of one study, as in an `Outcome`."""

    claims: tuple[Claim, ...]
    tables: tuple[Table, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def kept(folder: Path | None, name: str, settings: Settings, make: Callable[[], Part]) -> Part:
    """What ``make`` returns, read from ``folder`` where the same settings were finished before.

    Args:
        folder: where finished studies are; ``None``: nothing is kept.
        name: of the study.
        settings: all that decides the numbers.
        make: does the study.
    """
    if folder is None:
        return make()
    mark = sha256(json.dumps(asdict(settings), sort_keys=True).encode()).hexdigest()[:12]
    place = folder / f"{name}-{mark}.json"
    if not place.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(make()))
        with replacing(place) as beside:
            beside.write_text(text)
    return _read(json.loads(place.read_text()))


def _read(found: dict[str, Any]) -> Part:
    tables = (
        Table(each["title"], tuple(each["columns"]), tuple(map(tuple, each["rows"])))
        for each in found["tables"]
    )
    claims = tuple(Claim(**each) for each in found["claims"])
    return Part(claims, tuple(tables), found["data"], tuple(found["notes"]))
