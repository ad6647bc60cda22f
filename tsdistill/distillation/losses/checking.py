"""What losses ask of a step, and what they say when it is not there."""

from __future__ import annotations

import torch
from torch import Tensor

from tsdistill.distillation.losses.protocol import Step
from tsdistill.errors import TsdistillError


def outputs_of(step: Step) -> tuple[Tensor, Tensor]:
    """The student's and the teacher's outputs, in float32 at least.

    Raises:
        TsdistillError: there is no teacher, or the two have other shapes (other classes).
    """
    mine, theirs = step.student_output, step.teacher_output
    if theirs is None:
        raise TsdistillError("this loss needs a teacher; give --teacher, or --loss cross-entropy")
    if mine.shape != theirs.shape:
        raise TsdistillError(
            f"the student's output has the shape {tuple(mine.shape)}, the teacher's {tuple(theirs.shape)}; "
            "give two models of the same classes, or a loss that compares nodes (node-alignment, "
            "attention-transfer) where a model gives something else in training"
        )
    return single(mine), single(theirs)


def labels_of(step: Step) -> Tensor:
    """The labels: int64 ``[N]``, or probabilities ``[N, classes]``.

    Labels out of range are looked for on the CPU only, where that is free of waiting for a device.

    Raises:
        TsdistillError: there are none, or one is out of range.
    """
    y, classes = step.y, step.student_output.shape[1]
    if y is None:
        raise TsdistillError("this loss needs labels and the data have none; give --loss soft-targets")
    if not y.is_floating_point():
        for label in {int(y.min()), int(y.max())} if y.device.type == "cpu" and len(y) else ():
            if not 0 <= label < classes:
                raise TsdistillError(
                    f"a label is {label} and the model has {classes} classes (0 to {classes - 1}); give data "
                    "with the model's classes"
                )
    elif y.shape != step.student_output.shape:
        raise TsdistillError(
            f"labels of shape {tuple(y.shape)} for outputs of shape {tuple(step.student_output.shape)}; "
            "probabilities of classes have the shape of the outputs"
        )
    return y


def single(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 when it already is."""
    return x if x.dtype == torch.float64 else x.float()
