"""Losses of the outputs: soft targets, cross-entropy, decoupled distillation, logits, squared error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from tsdistill.distillation.losses.loss_protocol import ANY, CLASSES, PlainLoss, Step
from tsdistill.distillation.losses.output_rows import rows_of
from tsdistill.errors import TsdistillError
from tsdistill.options.option_fields import written

_CONSTANT_TARGETS = 1e-6
"""The variance of the teacher's values, as a share of their mean square, below which they count as constant:
such values differ in the fourth digit at most, and division by so small a variance would blow up noise."""


class SoftTargets(PlainLoss):
    """T² · KL(teacher ‖ student) of the class probabilities at temperature T, in nats, mean over the
    positions that count: samples, tokens that are no padding, or pixels.

    The factor T² makes the size of the gradient independent of T: for large T it is that of ½ the mean
    squared difference of the centred outputs. The recommended loss: the teacher's probabilities of the wrong
    classes carry information that labels do not have.

    G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015.

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


class CrossEntropy(PlainLoss):
    """Cross-entropy with the labels, or with the class probabilities that mixup or label smoothing gives,
    in nats.

    It is the mean over the positions that count: samples, tokens or pixels whose label is not the ignored
    one.

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


class Decoupled(PlainLoss):
    """T² · (alpha · TCKD + beta · NCKD), mean over the positions that count.

    TCKD is the divergence of (target, all others), NCKD that within the others; with p_t the teacher's
    probability of the target, KL = TCKD + (1 − p_t) NCKD (equation 7), so soft targets weigh NCKD less
    where the teacher is more confident. The target is the label, or, with ``target=teacher``, the
    teacher's own class, which needs no labels.

    B. Zhao et al., "Decoupled knowledge distillation", CVPR 2022.

    Args:
        alpha: weight of TCKD.
        beta: weight of NCKD.
        T: temperature, above 0.
        warmup: epochs over which the loss grows linearly to its weight.
        target: ``"label"`` or ``"teacher"``.
    """

    reads = CLASSES

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        T: float = 4.0,
        warmup: float = 0.0,
        target: str = "label",
    ) -> None:
        if target not in ("label", "teacher"):
            raise TsdistillError(f"dkd:target={target}: give label or teacher")
        self.alpha, self.beta, self.T, self.warmup = alpha, beta, positive_number(T, "dkd:T"), warmup
        self.needs_labels = target == "label"

    def __call__(self, step: Step) -> Tensor:
        """The two divergences of one batch, weighted.

        Raises:
            TsdistillError: no teacher, other classes, one class only, or no labels.
        """
        rows = rows_of(step, teacher=True, labels=self.needs_labels)
        if rows.student.shape[1] < 2:
            raise TsdistillError(f"dkd needs two classes or more; give {written('loss', 'logits')}")
        labels = rows.labels if self.needs_labels else rows.teacher
        target = labels.argmax(1) if labels.is_floating_point() else labels
        tckd, nckd = decoupled_divergences(rows.student / self.T, rows.teacher / self.T, target)
        growth = min(1.0, step.epoch / self.warmup) if self.warmup > 0 else 1.0
        return growth * self.T**2 * rows.mean(self.alpha * tckd + self.beta * nckd)


def decoupled_divergences(student: Tensor, teacher: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD (equations 5 and 6 of the paper).

    Args:
        student: outputs ``[N, classes]``, divided by the temperature.
        teacher: the same of the teacher.
        target: class numbers, int64 ``[N]``.

    Returns:
        TCKD and NCKD, each ``[N]``, in nats.
    """
    others = functional.one_hot(target, student.shape[1]) == 0
    rows = [(outputs.log_softmax(1), _others(outputs, others)) for outputs in (student, teacher)]
    two = [
        torch.stack([logs.gather(1, target[:, None])[:, 0], logs[others].view(len(logs), -1).logsumexp(1)], 1)
        for logs, _ in rows
    ]
    tckd = functional.kl_div(two[0], two[1], reduction="none", log_target=True).sum(1)
    nckd = functional.kl_div(rows[0][1], rows[1][1], reduction="none", log_target=True).sum(1)
    return tckd, nckd


def _others(outputs: Tensor, others: Tensor) -> Tensor:
    """Log-probabilities ``[N, classes - 1]`` among the classes that are not the target."""
    return outputs[others].view(len(outputs), -1).log_softmax(1)


class Logits(PlainLoss):
    """½ ‖student − teacher‖² of the classes, the loss of the theory (J = ½ E‖f* − f‖²).

    It is the mean over the positions that count: samples, tokens that are no padding, or pixels.

    It also applies to outputs that are not class scores.

    J. Ba, R. Caruana, "Do deep nets really need to be deep?", 2014.
    """

    reads = ANY

    def __call__(self, step: Step) -> Tensor:
        """The squared difference of one batch.

        Raises:
            TsdistillError: no teacher, or outputs of another shape.
        """
        rows = rows_of(step, teacher=True)
        return rows.mean((rows.student - rows.teacher).square().sum(1)) / 2


class SquaredError(PlainLoss):
    """Mean squared error of the student's values against the teacher's, over the variance of the teacher's.

    Σ (y − r)² / Σ (r − r̄)² with the teacher's values r of one batch and their mean r̄, over the values of all
    positions that count. 0: the same values; 1: no better than a constant. Values that do not vary over the
    batch count relative to their mean square, and zeros as they are.

    Args:
        relative: whether to divide by the variance; otherwise it is the mean squared error.
        target: ``"teacher"``, or ``"label"`` for labels that are values, in place of the teacher's output.
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
        """Variance of ``values [R, features]`` over the rows that count; their mean square where they are
        constant, 1 where they are 0."""
        squares = mean(values.square().mean(1))
        center = mean(values.mean(1))
        variance = mean((values - center).square().mean(1))
        scale = torch.where(variance > _CONSTANT_TARGETS * squares, variance, squares)
        return torch.where(scale > 0, scale, 1.0)
