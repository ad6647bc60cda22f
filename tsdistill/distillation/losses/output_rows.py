"""The positions of a batch in rows: what losses of outputs are computed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tsdistill.distillation.losses.loss_protocol import Step
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.counted_positions import counted, labels_for
from tsdistill.evaluation.output_layout import probabilities
from tsdistill.options.option_fields import written
from tsdistill.runtime.nests import by_name


@dataclass(frozen=True, eq=False)
class Rows:
    """Positions ``R`` (samples times tokens, or pixels) of an output, in float32 at least.

    Positions that do not count (padding, ignored labels) hold zeros, whatever the models gave there.

    Attributes:
        student: ``[R, classes]``, with gradient.
        teacher: likewise, without.
        labels: int64 ``[R]``, or probabilities ``[R, classes]``.
        counted: bool ``[R]``, ``None`` where all count.
    """

    student: Tensor
    _teacher: Tensor | None = None
    _labels: Tensor | None = None
    counted: Tensor | None = None

    @property
    def teacher(self) -> Tensor:
        """The teacher's rows, which were asked for."""
        assert self._teacher is not None
        return self._teacher

    @property
    def labels(self) -> Tensor:
        """The labels, which were asked for."""
        assert self._labels is not None
        return self._labels

    def mean(self, values: Tensor) -> Tensor:
        """The mean of ``values [R]`` over the positions that count; 0 without any."""
        if self.counted is None:
            return values.sum() / max(1, len(values))
        return (values * self.counted).sum() / self.counted.sum().clamp_min(1)


def rows_of(step: Step, *, teacher: bool = False, labels: bool = False, values: bool = False) -> Rows:
    """The rows of the output that a loss is for.

    Args:
        step: the step.
        teacher: whether the loss compares with the teacher.
        labels: whether it reads labels as classes. Labels out of range, and probabilities that are none, are
            looked for on the CPU only, where that is free of waiting for a device.
        values: whether it reads labels as values, one for each of the output's; they become ``labels``.

    Raises:
        TsdistillError: there is no teacher or there are no labels, or they do not fit the output.
    """
    layout, student_output = step.read_as, step.student_output
    counted_positions = counted(
        layout, student_output, by_name(step.student, step.x), step.y, step.ignore_index
    )
    counted_positions = None if counted_positions is None else counted_positions.flatten()
    teacher_rows = _rows(layout.rows(_teacher(step)), counted_positions) if teacher else None
    label_rows = (
        _labels(step, counted_positions) if labels else _values(step, counted_positions) if values else None
    )
    return Rows(
        _rows(layout.rows(student_output), counted_positions), teacher_rows, label_rows, counted_positions
    )


def single(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 when it already is."""
    return x if x.dtype == torch.float64 else x.float()


def _rows(rows: Tensor, counted_positions: Tensor | None) -> Tensor:
    flat = single(rows.flatten(0, -2))
    return flat if counted_positions is None else torch.where(counted_positions[:, None], flat, 0.0)


def _teacher(step: Step) -> Tensor:
    student_output, teacher_output = step.student_output, step.teacher_output
    if teacher_output is None:
        raise TsdistillError(
            f"this loss needs a teacher; give {written('teacher')}, or {written('loss', 'cross-entropy')}"
        )
    if student_output.shape != teacher_output.shape:
        raise TsdistillError(
            f"the student's output has the shape {tuple(student_output.shape)}, the teacher's "
            f"{tuple(teacher_output.shape)}; "
            "give two models of the same classes, or a loss that compares nodes (node-alignment, "
            "attention-transfer) where a model gives something else in training"
        )
    return teacher_output


def _label_tensor(step: Step, expected: str) -> Tensor:
    """The labels in the order of positions; ``wanted`` says for the message what fits the output."""
    layout, student_output = step.read_as, step.student_output
    y = step.y.get(layout.name) if isinstance(step.y, Mapping) else step.y
    if y is None:
        raise TsdistillError(
            f"this loss needs labels and the data have none; give {written('loss', 'soft-targets')}"
        )
    labels = labels_for(layout, student_output, y)
    if labels is None:
        kind = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise TsdistillError(
            f"labels of shape {kind} for outputs of shape {tuple(student_output.shape)}: give {expected}"
        )
    return labels


def _values(step: Step, counted_positions: Tensor | None) -> Tensor:
    labels = _label_tensor(step, "a value for each of the outputs'")
    width = step.read_as.rows(step.student_output).shape[-1]
    if not labels.is_floating_point():
        if width != 1:
            raise TsdistillError(
                f"the labels are whole numbers and the output has {width} values a position; this loss takes "
                f"a label for each value: give {written('loss', 'cross-entropy')} for class numbers"
            )
        labels = labels.unsqueeze(-1)
    return _rows(labels, counted_positions)


def _labels(step: Step, counted_positions: Tensor | None) -> Tensor:
    layout, student_output = step.read_as, step.student_output
    labels = _label_tensor(
        step,
        f"a class number for each position {layout.positions(student_output)}, or probabilities of classes "
        "in the shape of the outputs",
    )
    if labels.is_floating_point():
        flat = labels.flatten(0, -2)
        if flat.device.type == "cpu" and not probabilities(
            flat if counted_positions is None else flat[counted_positions]
        ):
            raise TsdistillError(
                "labels that are no whole numbers are the probabilities of classes, and these do not sum to "
                f"1 at each position; give {written('loss', 'mse:target=label')} for values"
            )
        return _rows(labels, counted_positions)
    flat = labels.flatten()
    flat = flat if counted_positions is None else torch.where(counted_positions, flat, 0)
    classes = layout.rows(student_output).shape[-1]
    for label in {int(flat.min()), int(flat.max())} if flat.device.type == "cpu" and len(flat) else ():
        if not 0 <= label < classes:
            raise TsdistillError(
                f"a label is {label} and the model has {classes} classes (0 to {classes - 1}); give data "
                "with the model's classes"
            )
    return flat.long()
