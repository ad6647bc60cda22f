"""The squared difference of outputs (J. Ba, R. Caruana, "Do deep nets really need to be deep?", 2014)."""

from __future__ import annotations

from torch import Tensor

from tsdistill.distillation.losses.loss_protocol import ANY, PlainLoss, Step
from tsdistill.distillation.losses.output_rows import rows_of


class Logits(PlainLoss):
    """½ ‖student − teacher‖² of the classes, the loss of the theory (J = ½ E‖f* − f‖²).

    It is the mean over the positions that count: samples, tokens that are no padding, or pixels.

    For outputs that are no classes as well.
    """

    reads = ANY

    def __call__(self, step: Step) -> Tensor:
        """The squared difference of one batch.

        Raises:
            TsdistillError: no teacher, or outputs of another shape.
        """
        rows = rows_of(step, teacher=True)
        return rows.mean((rows.student - rows.teacher).square().sum(1)) / 2
