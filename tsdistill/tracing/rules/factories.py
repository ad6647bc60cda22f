"""Operators that make a tensor from sizes alone (initial states, empty results), which fits what it meets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def _from_sizes(place: int) -> Callable[[Any, tuple, torch.Tensor], None]:
    def rule(tracer: Any, _args: tuple, out: torch.Tensor) -> None:
        fields: list[np.ndarray | None] = []
        for dim, size in enumerate(out.shape):
            labels = tracer.constraints.new_factory_labels(size) if size > 1 else None
            fields.append(labels)
            tracer.size(place, dim, labels)
        tracer.give(out, fields)
        tracer.mark_input(out, known=True)

    return rule


RULES = {
    **dict.fromkeys(("zeros", "ones", "full", "empty", "randn", "rand"), _from_sizes(0)),
    **dict.fromkeys(("new_zeros", "new_ones", "new_full", "new_empty"), _from_sizes(1)),
}
"""Factory operator -> rule; ``new_zeros`` and the like take the size as their second argument."""
