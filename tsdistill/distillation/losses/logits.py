"""The squared difference of outputs (J. Ba, R. Caruana, "Do deep nets really need to be deep?", 2014)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from tsdistill.distillation.losses.checking import outputs_of
from tsdistill.distillation.losses.protocol import PlainLoss, Step


class Logits(PlainLoss):
    """½ ‖student − teacher‖² of the outputs, mean over samples: the loss of the theory (J = ½ E‖f* − f‖²).

    For outputs that are no classes as well.
    """

    def __call__(self, step: Step) -> Tensor:
        """The squared difference of one batch.

        Raises:
            TsdistillError: no teacher, or outputs of another shape.
        """
        mine, theirs = outputs_of(step)
        return functional.mse_loss(mine, theirs, reduction="sum") / (2 * max(1, len(mine)))
