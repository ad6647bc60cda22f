"""The objects of a training loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tsdistill.data.training_batch import TrainingData
from tsdistill.distillation.batch_preparation import BatchPreparation
from tsdistill.distillation.losses import Batches, Combined
from tsdistill.distillation.optimizer_step import OptimizerStep
from tsdistill.distillation.output_pairs import TrainedOutputs
from tsdistill.distillation.request import Request
from tsdistill.distillation.run_writer import RunWriter
from tsdistill.distillation.teacher_outputs import CachedTeacher, NoTeacher, TeacherForward
from tsdistill.distillation.validation import Validation

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True, eq=False)
class LoopContext:
    """The objects of a training loop.

    Attributes:
        request: what the caller asked for.
        accelerator: of this process.
        data: the training data.
        preparation: prepares batches.
        teacher_forward: the outputs of the teacher.
        loss: the losses, attached.
        outputs: the outputs of student and teacher.
        samples: the batches on which losses renew their matches.
        optimizer_step: the student, its optimizer and schedule.
        writer: checkpoints, the log and the model on disk.
        validation: figures on held-out data and alignment, after each epoch.
    """

    request: Request
    accelerator: Accelerator
    data: TrainingData
    preparation: BatchPreparation
    teacher_forward: NoTeacher | TeacherForward | CachedTeacher
    loss: Combined
    outputs: TrainedOutputs
    samples: Batches
    optimizer_step: OptimizerStep
    writer: RunWriter
    validation: Validation
