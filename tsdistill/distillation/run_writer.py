"""Writing of checkpoints, the log and the model during a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tsdistill.distillation import checkpoints
from tsdistill.distillation.run_folder import MODEL, RunFolder
from tsdistill.distillation.validation import is_best
from tsdistill.files import scratch
from tsdistill.models import save
from tsdistill.options.option_fields import written
from tsdistill.options.train_options import TrainOptions


class RunWriter:
    """Writes for all processes; only the first one does anything.

    Args:
        folder: the run's, ``None`` to keep nothing.
        options: how often.
        result: gives the model to keep.
        arch: specification of its architecture, when the model does not know it.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        options: TrainOptions,
        result: Callable[[], nn.Module],
        arch: str | None,
    ) -> None:
        self._folder = folder
        self._writes = folder is not None and folder.writes
        self._options, self._result, self._arch = options, result, arch
        self._since = time.monotonic()
        self._at = -1

    @property
    def resume_hint(self) -> str:
        """How a stopped run is resumed, for a message."""
        return "" if self._folder is None else f"; {written('resume', True)} goes on from there"

    def check(self) -> None:
        """Check that the model can be saved, before it is trained.

        Raises:
            TsdistillError: nothing says how to build it again, or there is no space.
        """
        if self._folder is None or not self._writes:
            return
        with scratch(self._folder.path) as place:
            save(self._result(), place / MODEL, arch=self._arch)

    def due(self, updates: int) -> bool:
        """Whether a checkpoint is due after so many updates."""
        if not self._writes:
            return False
        minutes = self._options.checkpoint_minutes
        if minutes and time.monotonic() - self._since > 60 * minutes:
            return True
        return updates % self._options.checkpoint_steps == 0

    def write(self, state: Mapping[str, Any], updates: int) -> None:
        """Write a checkpoint.

        Raises:
            TsdistillError: the disk is full; the state before it is still there.
        """
        if self._folder is not None and self._writes:
            checkpoints.write(self._folder.last, state)
            self._since, self._at = time.monotonic(), updates

    def close_epoch(self, state: Mapping[str, Any], log: Sequence[Mapping[str, Any]], updates: int) -> None:
        """Write the model, the checkpoint and the log at the end of an epoch.

        Models come first, so that a checkpoint never refers to a model that is not written.

        Args:
            state: of the training.
            log: all lines so far; the best model is written where the last is the best.
            updates: steps of the optimizer so far.
        """
        if self._folder is None or not self._writes:
            return
        if is_best(log):
            save(self._result(), self._folder.best, arch=self._arch)
        save(self._result(), self._folder.model, arch=self._arch)
        self.write(state, updates)
        self._folder.write_log(log)

    def keep_last_finite(self, load: Callable[[Mapping[str, Any]], None], sound: bool) -> str:
        """Save the last model whose weights are finite; returns where, for a message.

        Args:
            load: loads a checkpoint into the training, where the present weights are not finite.
            sound: whether they are finite.
        """
        if self._folder is None or not self._writes:
            return ""
        if not sound:
            if not self._folder.last.exists():
                return ""
            load(checkpoints.read(self._folder.last))
        with torch.no_grad():
            save(self._result(), self._folder.model, arch=self._arch)
        return f"the last good state is kept in {self._folder.model}: "
