"""The request of a training, and what is measured of models and data before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tsdistill.data.text.text_spec import TextSpec, input_spec
from tsdistill.data.training_data import open_training
from tsdistill.distillation.ensemble import Ensemble, members_of
from tsdistill.distillation.losses import Combined
from tsdistill.distillation.output_pairs import TrainedOutputs
from tsdistill.distillation.training_log import Report
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.counted_positions import aligned_labels
from tsdistill.evaluation.named_outputs import batch_outputs
from tsdistill.evaluation.output_layout import layouts
from tsdistill.models import InputSpec
from tsdistill.options.data_options import InputOptions
from tsdistill.options.output_options import CLASSES
from tsdistill.options.train_options import TrainOptions
from tsdistill.runtime.forward import forward, to_model
from tsdistill.runtime.modes import evaluation_mode, plain_evaluation
from tsdistill.runtime.nests import arguments_of, by_name, count, moved
from tsdistill.runtime.progress import Progress
from tsdistill.runtime.unchanged import preserved_models

_FEATURE_SAMPLES, _OUTPUT_SAMPLES = 512, 32
"""Samples of the probe batches: 512 where losses or augmentations measure nodes (as many as node-alignment
and teacher-aware use by default), 32 where only shapes of outputs and labels are read."""

Pairs = list[tuple[Any, Any]]


@dataclass(frozen=True, eq=False)
class Request:
    """The arguments of `tsdistill.distillation.distill`."""

    student: nn.Module
    teacher: nn.Module | None
    data: Any
    options: TrainOptions
    out: str | Path | None = None
    held_out: Any = None
    resume: bool = False
    arch: str | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress | None = None
    report: Report | None = None

    @property
    def inputs_spec(self) -> InputSpec | TextSpec | None:
        """How the inputs of the student look."""
        teachers = [] if self.teacher is None else members_of(self.teacher)
        stated = InputOptions(tokenizer=self.options.tokenizer, length=self.options.length)
        return input_spec(self.student, stated, *teachers)


def probe_size(loss: Combined | None, options: TrainOptions) -> int:
    """Samples of the probe batches that losses and augmentations need."""
    plain = loss is None or not any(term.reads_features for term in loss.terms)
    return _OUTPUT_SAMPLES if plain and options.augment in ("none", "standard") else _FEATURE_SAMPLES


def probe_batches(request: Request, device: torch.device, wanted: int) -> Pairs:
    """The probe batches, the same for every process.

    Args:
        request: with the student, the data and the options.
        device: where labels go; inputs go to the student.
        wanted: samples, at least; all of the data where there are fewer.
    """
    options = request.options
    size = min(options.batch_size, wanted)
    data = open_training(
        request.data,
        request.inputs_spec,
        batch_size=size,
        seed=options.seed,
        samples=options.samples,
        arguments=arguments_of(request.student),
    )
    batches: Pairs = []
    seen = 0
    for batch in data.batches(0):
        batches.append((to_model(batch.x, request.student), moved(batch.y, device)))
        seen += count(batch.x)
        if seen >= wanted:
            break
    return batches


def probe_outputs(request: Request, samples: Pairs) -> tuple[TrainedOutputs, list[str]]:
    """The outputs of student and teacher on the first batch in evaluation mode, and which of them its labels
    are for.

    The student is run in training mode, too, so that outputs that cannot be trained are refused here.

    Raises:
        TsdistillError: a forward fails in either mode, an output is no tensor over the batch or has other
            dimensions in training mode, what the options say of outputs does not fit them, or the teacher
            gives values that are not finite at a position that counts.
    """
    x, y = samples[0]
    student, teacher, ignored = request.student, request.teacher, request.options.ignore_index
    named = by_name(student, x)
    y = aligned_labels(named, y, ignored)
    with torch.no_grad(), evaluation_mode(student):
        student_outputs = batch_outputs(forward(student, x, "student"), "student")
    teacher_outputs = None
    if teacher is not None:
        with torch.no_grad(), evaluation_mode(teacher):
            teacher_outputs = batch_outputs(forward(teacher, x, "teacher"), "teacher")
    outputs = TrainedOutputs.of(student_outputs, teacher_outputs, request.options.outputs, y)
    with preserved_models(student), plain_evaluation(student, training=True):
        outputs.check_training(
            student_outputs, batch_outputs(forward(student, x, "student"), "student in training mode")
        )
    if isinstance(teacher, Ensemble) and teacher_outputs is not None:
        known = {other: replace(outputs.layouts[name], name=other) for name, other in outputs.teacher.items()}
        teacher.layouts = {**layouts(teacher_outputs), **known}
    if teacher_outputs is not None:
        fault = outputs.non_finite_teacher_output(
            student_outputs, outputs.teacher_outputs(teacher_outputs), named, y, ignored
        )
        if fault is not None:
            raise TsdistillError(f"the teacher gives {fault}; see that its weights are finite")
    return outputs, outputs.labelled(student_outputs, y)


def default_loss(outputs: TrainedOutputs, has_teacher: bool, labelled: Sequence[str]) -> list[str]:
    """The losses where none is named.

    With a teacher soft targets for class scores and the relative squared error for all other outputs; without
    one the labels' cross-entropy, or their relative squared error where they are values.

    Args:
        outputs: of student and teacher.
        has_teacher: whether there is a teacher.
        labelled: the outputs that labels are for.
    """
    if has_teacher:
        names, losses = outputs.used, {True: "soft-targets", False: "mse"}
    else:
        names, losses = tuple(labelled), {True: "cross-entropy", False: "mse:target=label"}
    if not names:
        return ["cross-entropy"]
    several = len(outputs.layouts) > 1
    return [losses[outputs.layouts[name].kind == CLASSES] + (f"@{name}" if several else "") for name in names]
