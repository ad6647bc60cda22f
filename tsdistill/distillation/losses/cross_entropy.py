"""The labels' cross-entropy."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from tsdistill.distillation.losses.checking import labels_of, single
from tsdistill.distillation.losses.protocol import PlainLoss, Step
from tsdistill.errors import TsdistillError


class CrossEntropy(PlainLoss):
    """Cross-entropy with the labels, or with the probabilities that mixing has made of them, in nats.

    Args:
        smoothing: share of the probability that is spread over all classes, from 0 to below 1.
    """

    needs_teacher = False
    needs_labels = True

    def __init__(self, smoothing: float = 0.0) -> None:
        if not 0 <= smoothing < 1:
            raise TsdistillError(f"cross-entropy:smoothing={smoothing:g}: give a number from 0 to below 1")
        self.smoothing = smoothing

    def __call__(self, step: Step) -> Tensor:
        """The cross-entropy of one batch.

        Raises:
            TsdistillError: no labels, or one out of range.
        """
        labels, mine = labels_of(step), single(step.student_output)
        labels = labels.to(mine) if labels.is_floating_point() else labels
        return functional.cross_entropy(mine, labels, label_smoothing=self.smoothing)
