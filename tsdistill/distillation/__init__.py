"""Training what is left: losses, students, the loop, checkpoints."""

from tsdistill.distillation.api import distill, train
from tsdistill.distillation.options import Options, read_options
from tsdistill.distillation.signals import Interrupted
from tsdistill.distillation.training_log import Status, TrainResult

__all__ = ["Interrupted", "Options", "Status", "TrainResult", "distill", "read_options", "train"]
