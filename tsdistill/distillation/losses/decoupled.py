"""Decoupled knowledge distillation (B. Zhao et al., "Decoupled knowledge distillation", CVPR 2022)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tsdistill.distillation.losses.loss_protocol import CLASSES, PlainLoss, Step
from tsdistill.distillation.losses.output_rows import rows_of
from tsdistill.distillation.losses.soft_targets import positive_number
from tsdistill.errors import TsdistillError


class Decoupled(PlainLoss):
    """T² · (alpha · TCKD + beta · NCKD), mean over the positions that count.

    TCKD is the divergence of (target, all others), NCKD that within the others; with p_t the teacher's
    probability of the target, KL = TCKD + (1 − p_t) NCKD (equation 7), so soft targets weigh NCKD the less
    the surer the teacher is. The target is the label, or, with ``target=teacher``, the teacher's own class,
    which needs no labels.

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
            raise TsdistillError("dkd needs two classes or more; give --loss logits")
        labels = rows.labels if self.needs_labels else rows.teacher
        target = labels.argmax(1) if labels.is_floating_point() else labels
        tckd, nckd = decoupled_divergences(rows.student / self.T, rows.teacher / self.T, target)
        growth = min(1.0, step.epoch / self.warmup) if self.warmup > 0 else 1.0
        return growth * self.T**2 * rows.mean(self.alpha * tckd + self.beta * nckd)


def decoupled_divergences(student: Tensor, teacher: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD ``[N]`` in nats of outputs ``[N, classes]`` with the targets ``[N]`` (equations 5, 6)."""
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
