"""Soft targets (G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from tsdistill.distillation.losses.loss_protocol import CLASSES, PlainLoss, Step
from tsdistill.distillation.losses.output_rows import rows_of
from tsdistill.errors import TsdistillError


class SoftTargets(PlainLoss):
    """T² · KL(teacher ‖ student) of the class probabilities at temperature T, in nats, mean over the
    positions that count: samples, tokens that are no padding, or pixels.

    T² keeps the gradient's size when T is changed: for large T it is that of ½ the mean squared difference of
    the centred outputs. Recommended: what the classes that are wrong are given is what a teacher has to say.

    Args:
        T: temperature, above 0.
    """

    reads = CLASSES

    def __init__(self, T: float = 4.0) -> None:
        self.T = positive_number(T, "soft-targets:T")

    def __call__(self, step: Step) -> Tensor:
        """The divergence of one batch.

        Raises:
            TsdistillError: no teacher, or other classes.
        """
        rows = rows_of(step, teacher=True)
        divergences = functional.kl_div(
            (rows.student / self.T).log_softmax(1),
            (rows.teacher / self.T).log_softmax(1),
            reduction="none",
            log_target=True,
        )
        return self.T**2 * rows.mean(divergences.sum(1))


def positive_number(value: float, name: str) -> float:
    """``value``, when it is above 0.

    Raises:
        TsdistillError: it is not.
    """
    if not 0 < value < float("inf"):
        raise TsdistillError(f"{name}={value:g}: give a number above 0")
    return float(value)
