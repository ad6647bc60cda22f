"""The device of an experiment, and its memory, estimated before any network is created."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psutil
import torch

from tsdistill.devices import check_device
from tsdistill.errors import TsdistillError
from tsdistill.lab.engine.node_statistics import ACTIVATION_BYTES
from tsdistill.lab.engine.sgd import DRAW_BYTES, STEPS_A_PART
from tsdistill.lab.experiment import StudentSettings

PLANNED_SHARE = 0.9
"""The share of free memory that may be planned with; the rest is for what the estimate leaves out."""


def training_device(
    settings: StudentSettings,
    networks: int,
    inputs: int,
    teacher: Sequence[int],
    student: Sequence[int],
    *,
    samples: int,
    own: bool = False,
    reduce: str,
) -> dict[str, Any]:
    """Device and precision of an experiment's tensors, once its largest stack of networks fits.

    Args:
        settings: of the experiment.
        networks: S.
        inputs: d.
        teacher: m_l of each hidden layer.
        student: n_l of each hidden layer.
        samples: number of samples on which nodes are observed.
        own: whether each network draws its own samples.
        reduce: options that reduce the memory, for the message.

    Returns:
        the keywords ``dtype`` and ``device``.

    Raises:
        TsdistillError: the device does not exist on this machine, or the networks do not fit.
    """
    device, dtype = torch.device(check_device(settings.device)), getattr(torch, settings.dtype)
    needed = training_bytes(
        networks, inputs, teacher, student, settings.outputs, settings.batch, samples=samples, own=own,
        dtype=dtype,
    )  # fmt: skip
    check_memory(needed, device, reduce)
    return {"dtype": dtype, "device": device}


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


def check_memory(needed: int, device: torch.device, reduce: str) -> None:
    """Raise unless ``needed`` bytes are free.

    Args:
        needed: bytes.
        device: the device that has to hold them.
        reduce: options that reduce ``needed``, for the message.

    Raises:
        TsdistillError: there is less memory free.
    """
    on_gpu = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else psutil.virtual_memory().available
    if needed > PLANNED_SHARE * free:
        raise TsdistillError(
            f"this needs about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free on {device}: "
            f"reduce {reduce}"
        )
