"""What a training loop works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tsdistill.data.training import TrainingData
from tsdistill.distillation.batching import Batching
from tsdistill.distillation.following import Following
from tsdistill.distillation.keeping import Keeping
from tsdistill.distillation.losses import Batches, Combined
from tsdistill.distillation.options import Options
from tsdistill.distillation.outputs import TrainedOutputs
from tsdistill.distillation.results import Report, Tell
from tsdistill.distillation.teaching import CachedTeaching, NoTeacher, Teaching
from tsdistill.distillation.updating import Updating

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
