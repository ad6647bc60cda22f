"""Training what is left: losses, students, the loop, checkpoints."""

from tsdistill.distillation.distilling import distill, train
from tsdistill.distillation.guarding import Interrupted
from tsdistill.distillation.options import Options, read_options
from tsdistill.distillation.results import Status, TrainResult

__all__ = ["Interrupted", "Options", "Status", "TrainResult", "distill", "read_options", "train"]
