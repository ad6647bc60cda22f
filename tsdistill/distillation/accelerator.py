"""Where a training runs: devices, precision and processes, through accelerate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tsdistill.devices import check_device
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.evaluation.named_outputs import batch_outputs
from tsdistill.options.option_fields import written
from tsdistill.options.train_options import TrainOptions
from tsdistill.runtime.exclusive import exclusive
from tsdistill.runtime.forward import forward
from tsdistill.runtime.seeds import preserved_generators

if TYPE_CHECKING:
    from accelerate import Accelerator

_DEVICE = "ACCELERATE_TORCH_DEVICE"
_LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR")


class StudentModule(nn.Module):
    """The module that accelerate wraps and changes in place of the student.

    Args:
        student: the model that is trained.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, x: Any) -> dict[str, torch.Tensor]:
        """The student's outputs, by name.

        Raises:
            TsdistillError: the student's forward fails.
        """
        return batch_outputs(forward(self.student, x, "student"), "student")


@contextmanager
def accelerator_for(options: TrainOptions, folder: str | None = None) -> Iterator[Accelerator]:
    """accelerate's ``Accelerator`` for a run: the processes that ``accelerate launch`` or ``torchrun``
    started, or this one alone.

    The state that accelerate keeps is the process's: runs in several threads take turns. Global generators
    are left as they were.

    Args:
        options: device, precision and tracker.
        folder: where trackers write.

    Raises:
        TsdistillError: the device is not there, does not have the precision, or the tracker is not installed.
    """
    with exclusive(), preserved_generators():
        yield from _open_accelerator(options, folder)


def _open_accelerator(options: TrainOptions, folder: str | None) -> Iterator[Accelerator]:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    own_group = not torch.distributed.is_initialized()
    place = _accelerate_device(options.device)
    if options.amp == "fp16" and place == "cpu":
        raise TsdistillError("cannot run with amp fp16 on the CPU; bf16 works there")
    environment = os.environ.get(_DEVICE)
    if place is not None and place != "cpu":
        os.environ[_DEVICE] = place
    try:
        accelerator = Accelerator(
            mixed_precision=options.amp,
            cpu=place == "cpu",
            log_with=options.tracker,
            project_dir=folder,
        )
    except (ValueError, ImportError, RuntimeError) as error:
        raise TsdistillError(
            f"cannot run with amp {options.amp} on {options.device}: {cause_of(error)}"
        ) from error
    finally:
        if environment is None:
            os.environ.pop(_DEVICE, None)
    kind = str(getattr(accelerator.distributed_type, "value", accelerator.distributed_type))
    if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise TsdistillError(
            f"accelerate is set to {kind}, and a student is held whole by every process; launch without it "
            f"(a teacher that does not fit: {written('shard_teacher')})"
        )
    try:
        yield accelerator
    finally:
        if own_group and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def launched() -> bool:
    """Whether torchrun or accelerate started this process as one of several."""
    return all(name in os.environ for name in _LAUNCHED) and os.environ["WORLD_SIZE"] != "1"


def _accelerate_device(device: str) -> str | None:
    """The device for accelerate; ``None`` lets it choose."""
    if device == "auto":
        return None if torch.cuda.is_available() or _mps() else "cpu"
    check_device(device)
    return None if device == "cuda" and launched() else device


def _mps() -> bool:
    return torch.backends.mps.is_available()
