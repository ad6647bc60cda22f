"""How nodes are compared, and when a word applies to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tsdistill.options.option_fields import OptionSet, option

METRIC = "correlation"
"""The alignment metric where none is named."""

STRENGTH_TARGET = 0.05
"""Standard error of a node's strength, in parts of its group's largest, down to which samples are added: a
fraction of what separates the strong nodes of a group from the rest, and reached in 1 to 4 turns on the
networks of ``benchmarks/``."""


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions(OptionSet):
    """How nodes are compared, and when a word applies to them."""

    metric: Any = option(
        METRIC,
        "Alignment metric (see `tsdistill plugins`), correlation without it. Give it again for more; the "
        "first that compares nodes finds the best matches.",
        section="Comparison of nodes",
        metavar="NAME",
        form="texts",
    )
    pairs: Mapping[str, str] | None = option(
        None,
        "Compare these two groups, whatever matching finds. Give it again for more.",
        section="Comparison of nodes",
        metavar="STUDENT_GROUP=TEACHER_GROUP",
        form="pairs",
        flags=("--pair",),
    )
    positions: int | str | None = option(
        "auto",
        "Positions of a feature map that are looked at in each sample: auto bounds the work by the layer's "
        "width.",
        section="Comparison of nodes",
        metavar="auto|all|N",
        form="positions",
        least=1,
        choices=("auto", "all"),
    )
    aligned: float = option(
        0.9,
        "Similarity to a teacher node from which a node is aligned.",
        section="Comparison of nodes",
        metavar="X",
        least=-1,
        most=1,
    )
    weak: float = option(
        0.01,
        "Part of the group's largest strength below which a node is weak.",
        section="Comparison of nodes",
        metavar="X",
        least=0,
        most=1,
    )
    redundant: float = option(
        0.99,
        "R² from the group's other nodes at which a node is redundant.",
        section="Comparison of nodes",
        metavar="X",
        least=0,
        most=1,
    )
    strength_samples: int = option(
        256,
        "Samples for strength, which needs backward passes; more where strength_target is not met.",
        least=1,
    )
    strength_target: float | None = option(
        STRENGTH_TARGET,
        "Standard error of strength, in parts of a group's largest, up to which samples are added; None for "
        "one backward pass of strength_samples.",
        above=0,
    )
    for_pruning: bool = option(
        True, "Whether the statistics are kept that pruning goes by; they cost another pass over the data."
    )

    @classmethod
    def converted(cls, name: str, value: Any, at: str) -> Any:  # noqa: ARG003
        """``None`` for all positions."""
        return None if name == "positions" and value == "all" else value
