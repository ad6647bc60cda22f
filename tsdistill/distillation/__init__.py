"""Training what is left: losses, students, the loop, checkpoints."""

from tsdistill.distillation.api import distill, train
from tsdistill.distillation.loss_module import DistillationLoss
from tsdistill.distillation.signals import Interrupted
from tsdistill.distillation.training_log import TrainResult
from tsdistill.lazy_names import renamed
from tsdistill.options.option_files import read_options
from tsdistill.options.train_options import TrainOptions

__all__ = [
    "DistillationLoss",
    "Interrupted",
    "TrainOptions",
    "TrainResult",
    "distill",
    "read_options",
    "train",
]

__getattr__ = renamed(
    __name__,
    {
        "Options": "tsdistill.options.TrainOptions",
        "Status": "tsdistill.runtime.progress.TrainingStatus",
    },
)
