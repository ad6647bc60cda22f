"""The device of an experiment, and its memory, estimated before any network is created."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import torch

from tsdistill.errors import TsdistillError
from tsdistill.lab.engine.node_statistics import ACTIVATION_BYTES
from tsdistill.lab.engine.sgd import DRAW_BYTES, STEPS_A_PART

PLANNED_SHARE = 0.9
"""The share of free memory that may be planned with."""


def device_and_dtype(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """The device and the precision with these names.

    Raises:
        TsdistillError: the device does not exist on this machine.
    """
    try:
        resolved = torch.device(device)
        torch.empty(1, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise TsdistillError(f"--device {device}: not available on this machine; use cpu") from error
    return resolved, getattr(torch, dtype)


def training_bytes(
    networks: int,
    inputs: int,
    teacher: Sequence[int],
    student: Sequence[int],
    outputs: int,
    batch: int,
    *,
    samples: int = 0,
    own: bool = False,
    dtype: torch.dtype = torch.float32,
) -> int:
    """Estimate of the memory that training and observing a stack of students takes, in bytes.

    Args:
        networks: S.
        inputs: d.
        teacher: m_l of each hidden layer.
        student: n_l of each hidden layer.
        outputs: c.
        batch: B.
        samples: number of samples on which nodes are observed.
        own: whether each network draws its own samples.
        dtype: of the weights.

    Returns:
        the sum of weights (drawn in float64, kept in ``dtype``), activations of a step, drawn samples,
        targets of the steps of one part, and activations of one observation.
    """
    item = dtype.itemsize
    weights = networks * sum(
        read * written + written
        for widths in (teacher, student)
        for read, written in zip((inputs, *widths), (*widths, outputs), strict=True)
    )
    step = networks * batch * (2 * sum(student) + outputs)
    drawn = min(DRAW_BYTES, STEPS_A_PART * batch * inputs * item * (networks if own else 1))
    drawn = max(drawn, batch * inputs * item * (networks if own else 1))
    wanted = networks * STEPS_A_PART * batch * (outputs + max(teacher))
    correlations = networks * max(m * n for m, n in zip(teacher, student, strict=True))
    observed = max(ACTIVATION_BYTES, 2 * samples * (inputs + 2 * max(*student, outputs)) * item)
    return weights * (item + 8) + (step + wanted + correlations) * item + 2 * drawn + 2 * observed


def free_bytes(device: torch.device) -> int:
    """Free memory of ``device``, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def check_memory(needed: int, device: torch.device, reduce: str) -> None:
    """Raise unless ``needed`` bytes are free.

    Args:
        needed: bytes.
        device: the device that has to hold them.
        reduce: options that reduce ``needed``, for the message.

    Raises:
        TsdistillError: there is less memory free.
    """
    free = free_bytes(device)
    if needed > PLANNED_SHARE * free:
        raise TsdistillError(
            f"this needs about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free on {device}: "
            f"reduce {reduce}"
        )
