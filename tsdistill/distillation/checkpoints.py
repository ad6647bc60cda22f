"""The state of a run on disk: whole or not there, read without unpickling code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tsdistill.errors import TsdistillError
from tsdistill.files import replacing

VERSION = 1


@dataclass(frozen=True)
class Position:
    """How far a training is.

    Attributes:
        epoch: epochs that are done.
        batch: batches of the next epoch that are done.
        updates: steps of the optimizer so far.
    """

    epoch: int = 0
    batch: int = 0
    updates: int = 0


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` to ``path``, whole or not at all.

    Raises:
        TsdistillError: it cannot be written (a full disk); what was at ``path`` stays.
    """
    with replacing(path, RuntimeError, ValueError) as beside, open(beside, "wb") as file:
        torch.save({"version": VERSION, **state}, file)


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote, on the CPU.

    Raises:
        TsdistillError: the file is damaged, or of another version.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise TsdistillError(
            f"the checkpoint {path} cannot be read ({type(error).__name__}); remove it to start afresh"
        ) from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise TsdistillError(f"{path} is no checkpoint of this version; remove it to start afresh")
    return state
