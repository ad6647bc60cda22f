"""The squared error of values, relative to how much the teacher's vary."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tsdistill.distillation.losses.loss_protocol import ANY, PlainLoss, Step
from tsdistill.distillation.losses.output_rows import rows_of
from tsdistill.errors import TsdistillError

_CONSTANT = 1e-6
"""The variance of the teacher's values, in parts of their mean square, below which they count as constant:
such values differ in the fourth digit at most, and division by so small a variance would blow up noise."""


class SquaredError(PlainLoss):
    """Mean squared error of the student's values against the teacher's, over the variance of the teacher's.

    Σ (y − r)² / Σ (r − r̄)² with the teacher's values r of one batch and their mean r̄, over the values of all
    positions that count. 0: the same values; 1: no better than a constant. Values that do not vary over the
    batch count relative to their mean square, and zeros as they are.

    Args:
        relative: whether to divide by the variance; otherwise it is the mean squared error.
        target: ``"teacher"``, or ``"label"`` for labels that are values, which take the teacher's place.
    """

    reads = ANY

    def __init__(self, relative: bool = True, target: str = "teacher") -> None:
        if target not in ("teacher", "label"):
            raise TsdistillError(f"mse:target={target}: give teacher or label")
        self.relative = relative
        self.needs_labels = target == "label"
        self.needs_teacher = not self.needs_labels

    def __call__(self, step: Step) -> Tensor:
        """The error of one batch.

        Raises:
            TsdistillError: no teacher (or labels), or values of another shape.
        """
        rows = rows_of(step, teacher=self.needs_teacher, values=self.needs_labels)
        target = rows.labels.to(rows.student) if self.needs_labels else rows.teacher
        error = rows.mean((rows.student - target).square().mean(1))
        return error / self._scale(target, rows.mean) if self.relative else error

    @staticmethod
    def _scale(values: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
        """Variance of ``values [R, features]`` over the rows that count, or what stands in for it."""
        squares = mean(values.square().mean(1))
        center = mean(values.mean(1))
        variance = mean((values - center).square().mean(1))
        scale = torch.where(variance > _CONSTANT * squares, variance, squares)
        return torch.where(scale > 0, scale, 1.0)
