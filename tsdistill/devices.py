"""Devices by name, checked before any work is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tsdistill.errors import TsdistillError

if TYPE_CHECKING:
    import torch


def check_device(name: str | torch.device) -> str:
    """Refuse a device that cannot compute.

    Args:
        name: as PyTorch writes it: ``"cpu"``, ``"cuda:1"``, ``"mps"``.

    Returns:
        the name.

    Raises:
        TsdistillError: PyTorch does not know the device, this machine does not have it, or tensors on it hold
            no values (``meta``).
    """
    import torch

    try:
        torch.ones(1, device=name).item()
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0].split(". ")[0]
        raise TsdistillError(
            f"there is no device {name!r} to compute on: {reason}; device cpu works everywhere"
        ) from error
    return str(name)
