"""A teacher that does not fit: its weights spread over the processes (FSDP), gathered layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from tsdistill.errors import TsdistillError

if TYPE_CHECKING:
    from accelerate import Accelerator

_SMALLEST = 1_000_000
"""Parameters from which a module is gathered on its own."""


def shard(teacher: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The teacher, in place, with each process keeping its part of every weight.

    A forward gathers one block after the other and lets it go again, so a process holds the teacher's
    parameters over the number of processes, and one block whole.

    Raises:
        TsdistillError: there is one process only, or PyTorch cannot shard this model.
    """
    if accelerator.num_processes < 2:
        raise TsdistillError("--shard-teacher spreads a teacher over several processes; start some")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    try:
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        for block in _blocks(teacher):
            fully_shard(block, mesh=mesh)
        fully_shard(teacher, mesh=mesh)
    except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
        said = " ".join(str(error).split())[:200]
        raise TsdistillError(f"the teacher cannot be sharded: {said}; leave --shard-teacher out") from error
    return teacher


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The smallest modules below ``model`` that have enough parameters, none within another."""
    found: list[nn.Module] = []
    for child in model.children():
        below = _blocks(child)
        if below:
            found += below
        elif sum(parameter.numel() for parameter in child.parameters()) >= _SMALLEST:
            found.append(child)
    return found
