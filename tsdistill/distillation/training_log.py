"""What a training returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from tsdistill.distillation.run_folder import plain_line
from tsdistill.options.train_options import TrainOptions
from tsdistill.schema import finite_or_none

Report = Callable[[Mapping[str, Any]], None]
"""Is called with the log's line of each epoch."""


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A training that has come to its end.

    Attributes:
        model: the student (its moving average, where one was kept), in eval mode.
        options: how it was trained.
        log: a line an epoch: ``epoch``, ``loss``, ``lr``, ``samples``, ``rate`` (samples a second),
            ``seconds``, ``skipped``, figures on held-out data (``val/...``) and of alignment
            (``alignment/...``). With held-out data the first line, ``epoch`` 0, has their figures before
            training.
        folder: the run's, ``None`` without one.
        updates: steps of the optimizer.
        frozen_bn: whether batch norms kept their statistics.
        skipped: how many times a sample that could not be read was left out.
        resumed: updates that an earlier run had made, ``None`` for a run that started afresh.
        best: the epoch that was best on held-out data (0 is before training), and its figure.
        judged_by: the metric of that figure and its unit, such as ``("top1", "%")``.
        history: alignment from epoch to epoch, where it was followed (in the first process).
        notes: lines for people.
    """

    model: nn.Module
    options: TrainOptions
    log: tuple[Mapping[str, Any], ...]
    folder: Path | None
    updates: int
    skipped: int = 0
    frozen_bn: bool = False
    resumed: int | None = None
    best: tuple[int, float] | None = None
    judged_by: tuple[str, str] | None = None
    history: Any = None
    notes: tuple[str, ...] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, weights and history aside: ``{"format": 1, "kind": "training", ...}``.

        What is no finite number becomes ``None``.
        """
        return {
            "format": 1,
            "kind": "training",
            "folder": None if self.folder is None else str(self.folder),
            "updates": self.updates,
            "skipped": self.skipped,
            "frozen_bn": self.frozen_bn,
            "resumed": self.resumed,
            "best": self._best(),
            "options": self.options.to_dict(),
            "log": [plain_line(line) for line in self.log],
            "notes": list(self.notes),
        }

    def _best(self) -> dict[str, Any] | None:
        if self.best is None:
            return None
        metric, unit = self.judged_by or (None, None)
        return {
            "epoch": self.best[0],
            "figure": finite_or_none(self.best[1]),
            "metric": metric,
            "unit": unit,
        }
