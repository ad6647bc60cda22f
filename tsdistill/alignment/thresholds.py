"""From which similarity, strength and R² on a node is called aligned, weak or redundant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Thresholds:
    """Where words begin to apply.

    Attributes:
        aligned: best correlation with a teacher node at or above which a node is aligned.
        weak: share of the group's largest strength below which a node is weak.
        redundant: share of variance explained by the group's other nodes at or above which it is redundant.
    """

    aligned: float = 0.9
    weak: float = 0.01
    redundant: float = 0.99
