"""How far a model's outputs are from the dense model's: whether re-alignment did the whole any good."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.runtime.forward import forward, head
from tsdistill.runtime.modes import evaluation_mode, judged
from tsdistill.runtime.nests import count, tensors
from tsdistill.runtime.seeds import seeded

SAMPLES = 64
"""Samples on which outputs are compared: the error is a mean over all entries of the outputs."""


ROUNDING = 1e-8
"""An error that may be rounding alone."""


class Outputs:
    """The dense model's outputs on the first samples.

    Args:
        dense: it is left as it was.
        batches: yields ``(x, y)``; ``y`` is not looked at.
        samples: how many.

    Raises:
        TsdistillError: the dense model's forward fails.
    """

    def __init__(self, dense: nn.Module, batches: Iterable[tuple[Any, Any]], samples: int = SAMPLES) -> None:
        self._known: list[tuple[Any, list[Tensor]]] = []
        for x, _ in batches:
            x = head(x, samples)
            self._known.append((x, _values(dense, x)))
            samples -= count(x)
            if samples <= 0:
                break

    def error(self, model: nn.Module) -> float:
        """Squared distance of its outputs, in parts of the dense model's own squares; NaN where they have
        other shapes (as a detector's do), infinity where they are no numbers.

        Raises:
            TsdistillError: the model's forward fails.
        """
        apart = size = 0.0
        for x, wanted in self._known:
            outputs = _values(model, x)
            if [y.shape for y in outputs] != [y.shape for y in wanted]:
                return float("nan")
            for one, other in zip(outputs, wanted, strict=True):
                if not bool(torch.isfinite(one).all()):
                    return float("inf")
                apart += float((one.double() - other.double()).square().sum())
                size += float(other.double().square().sum())
        return apart / size if size else float("nan")


def _values(model: nn.Module, x: Any) -> list[Tensor]:
    with torch.no_grad(), evaluation_mode(model), seeded(0):
        outputs = tensors(judged(forward(model, x)))
    return [y.clone() for y in outputs if y.is_floating_point()]
