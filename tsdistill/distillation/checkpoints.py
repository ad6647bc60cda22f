"""The state of a run on disk: whole or not there, read without unpickling code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict

from tsdistill.errors import TsdistillError
from tsdistill.files import atomic_file
from tsdistill.models.files import torch_save
from tsdistill.schema import Count, Schema, Text, validated
from tsdistill.untrusted import check_regular, read_guard

VERSION = 1
"""Version of the checkpoint format; files of another version are refused."""
WAY_OUT = "remove it to start afresh"


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
    with atomic_file(path, RuntimeError, ValueError) as temporary, open(temporary, "wb") as file:
        torch.save({"version": VERSION, **state}, file)


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote, on the CPU.

    Raises:
        TsdistillError: the file is damaged, or of another version.
    """
    what = f"the checkpoint {path}"
    check_regular(path)
    with read_guard(what, WAY_OUT):
        state: dict[str, Any] = torch_save.load(path)
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise TsdistillError(f"{path} is no checkpoint of this version; {WAY_OUT}")
    validated(_StateFields, state, what, WAY_OUT)
    return state


class _PositionFields(Schema):
    """`Position`."""

    model_config = ConfigDict(extra="forbid")

    epoch: Count
    batch: Count
    updates: Count


class _TallyFields(Schema):
    """What `tsdistill.distillation.running_means.RunningMeans` keeps."""

    total: float
    parts: dict[Text, float]
    weight: float
    samples: Count
    seconds: float
    skipped: Count
    complaint: str


class _StateFields(Schema):
    """A checkpoint, as far as its parts are the training loop's own; others check theirs as they load it."""

    position: _PositionFields
    log: list[dict[Text, Any]]
    skipped: Count
    tally: _TallyFields
    loss: dict[Any, Any]
    following: dict[Any, Any]
