"""The settings of the experiment population-gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.lab.experiment import ExactSettings
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


def four_decimals(values: Tensor) -> Any:
    """The values as nested lists, rounded to four decimals: more than a figure shows."""
    return (values * 1e4).round().div(1e4).tolist()
