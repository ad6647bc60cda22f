"""What a training loop works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tsdistill.data.training_batch import TrainingData
from tsdistill.distillation.batch_preparation import Batching
from tsdistill.distillation.losses import Batches, Combined
from tsdistill.distillation.optimizer_step import Updating
from tsdistill.distillation.options import Options
from tsdistill.distillation.output_pairs import TrainedOutputs
from tsdistill.distillation.run_writer import Keeping
from tsdistill.distillation.teacher_outputs import CachedTeaching, NoTeacher, Teaching
from tsdistill.distillation.training_log import Report, Tell
from tsdistill.distillation.validation import Following

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True, eq=False)
class Parts:
    """What a loop works with.

    Attributes:
        options: how it goes.
        accelerator: where it runs.
        data: what it reads.
        batching: makes batches ready.
        teaching: the teacher's side.
        loss: what is made small, attached.
        outputs: what student and teacher give.
        samples: the batches that losses renew their matches on.
        updating: the student and what changes it.
        keeping: checkpoints.
        following: what is looked at after each epoch.
        tell: is told how it stands.
        report: is given each epoch's line.
    """

    options: Options
    accelerator: Accelerator
    data: TrainingData
    batching: Batching
    teaching: NoTeacher | Teaching | CachedTeaching
    loss: Combined
    outputs: TrainedOutputs
    samples: Batches
    updating: Updating
    keeping: Keeping
    following: Following
    tell: Tell | None = None
    report: Report | None = None
