"""Where networks live, and whether they have room there, known before any are made."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import torch

from tsdistill.errors import TsdistillError
from tsdistill.lab.engine.node_statistics import HELD
from tsdistill.lab.engine.sgd import DRAWN, ROUND

SPARE = 0.9
"""The share of free memory that may be planned with."""


def place(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """A device that is there, and a precision, by their names.

    Raises:
        TsdistillError: there is no such device here.
    """
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise TsdistillError(f"--device {device}: there is none here; cpu always works") from error
    return found, getattr(torch, dtype)


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
    """About how much memory a stack of students takes while it is trained and observed.

    Args:
        networks: S.
        inputs: d.
        teacher: m_l of each hidden layer.
        student: n_l of each hidden layer.
        outputs: c.
        batch: B.
        samples: how many are used to observe the nodes.
        own: whether each network draws samples of its own.
        dtype: of the weights.

    Returns:
        bytes: weights drawn in float64 and kept, activations of a step, drawn samples, targets of the steps
        that a part makes at once, activations that are observed at once.
    """
    item = dtype.itemsize
    weights = networks * sum(
        read * written + written
        for widths in (teacher, student)
        for read, written in zip((inputs, *widths), (*widths, outputs), strict=True)
    )
    step = networks * batch * (2 * sum(student) + outputs)
    drawn = min(DRAWN, ROUND * batch * inputs * item * (networks if own else 1))
    drawn = max(drawn, batch * inputs * item * (networks if own else 1))
    wanted = networks * ROUND * batch * (outputs + max(teacher))
    correlations = networks * max(m * n for m, n in zip(teacher, student, strict=True))
    observed = max(HELD, 2 * samples * (inputs + 2 * max(*student, outputs)) * item)
    return weights * (item + 8) + (step + wanted + correlations) * item + 2 * drawn + 2 * observed


def free_bytes(device: torch.device) -> int:
    """Free memory where ``device`` keeps its tensors."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def check_room(needed: int, device: torch.device, reduce: str) -> None:
    """Refuse what would not fit, before it is made.

    Args:
        needed: bytes.
        device: where.
        reduce: what makes it smaller, for the message.

    Raises:
        TsdistillError: there is less memory free.
    """
    free = free_bytes(device)
    if needed > SPARE * free:
        raise TsdistillError(
            f"this needs about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free on {device}: "
            f"reduce {reduce}"
        )
