"""The labels' cross-entropy."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from tsdistill.distillation.losses.loss_protocol import CLASSES, PlainLoss, Step
from tsdistill.distillation.losses.output_rows import rows_of
from tsdistill.errors import TsdistillError


class CrossEntropy(PlainLoss):
    """Cross-entropy with the labels, or with the probabilities that mixing has made of them, in nats.

    It is the mean over the positions that count: samples, tokens or pixels whose label is not to be ignored.

    Args:
        smoothing: share of the probability that is spread over all classes, from 0 to below 1.
    """

    reads = CLASSES
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
        rows = rows_of(step, labels=True)
        labels = rows.labels
        labels = labels.to(rows.student) if labels.is_floating_point() else labels
        values = functional.cross_entropy(
            rows.student, labels, label_smoothing=self.smoothing, reduction="none"
        )
        return rows.mean(values)
