"""A teacher that does not fit: its weights spread over the processes (FSDP), gathered layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from tsdistill.augmentation import needs_teacher, opened
from tsdistill.distillation.losses import Combined
from tsdistill.errors import TsdistillError, cause_of

if TYPE_CHECKING:
    from accelerate import Accelerator

_SMALLEST_BLOCK = 1_000_000
"""Parameters from which a module is gathered on its own: 4 MB of float32. Smaller modules are gathered with
their parent, as the latency of a collective operation would outweigh its data."""


def shard(teacher: nn.Module, accelerator: Accelerator, loss: Combined | None, augment: str) -> None:
    """Keep in each process its part of every weight of the teacher, in place and for good.

    A forward gathers one block after the other and lets it go again, so a process holds the teacher's
    parameters over the number of processes, and one block whole. It is the same forward in all processes at
    once: whatever looks into the teacher on its own time is refused.

    Args:
        teacher: on any device; what a process keeps of it is moved to the process's own.
        accelerator: of the processes.
        loss: what is trained on, ``None`` for losses of outputs.
        augment: the augmentation that is asked for.

    Raises:
        TsdistillError: there is one process only, PyTorch cannot shard this model, or the loss or the
            augmentation needs more of it than its outputs.
    """
    if accelerator.num_processes < 2:
        raise TsdistillError("--shard-teacher spreads a teacher over several processes; start some")
    terms = () if loss is None else loss.terms
    readers = [f"the loss {term.name}" for term in terms if term.loss.needs_teacher and term.reads_features]
    if augment != "none" and needs_teacher(opened(augment)):
        readers.append(f"the augmentation {augment}")
    if readers:
        raise TsdistillError(
            f"{readers[0]} looks into the teacher, and one that is spread out gives its outputs only; "
            "leave --shard-teacher out, or give a loss of outputs (--loss soft-targets)"
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    try:
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        for block in _blocks(teacher):
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
        fully_shard(teacher, mesh=mesh, reshard_after_forward=True)
    except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
        raise TsdistillError(
            f"the teacher cannot be sharded: {cause_of(error)}; leave --shard-teacher out"
        ) from error


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The smallest modules below ``model`` that have enough parameters, none within another."""
    blocks: list[nn.Module] = []
    for child in model.children():
        below = _blocks(child)
        if below:
            blocks += below
        elif sum(parameter.numel() for parameter in child.parameters()) >= _SMALLEST_BLOCK:
            blocks.append(child)
    return blocks
