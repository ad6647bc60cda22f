"""Alignment during training: once an epoch, on a few samples, beside the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from tsdistill.alignment.analysis import analyze_prepared
from tsdistill.alignment.history import THIRDS, AlignmentHistory, GroupHistory
from tsdistill.alignment.thresholds import Thresholds
from tsdistill.distillation.losses.loss_protocol import Batches
from tsdistill.distillation.paired_groups import PairedGroups, Samples, similarities, strengths
from tsdistill.errors import TsdistillError
from tsdistill.models import info_of
from tsdistill.options.analysis_options import AnalysisOptions
from tsdistill.options.data_options import DataOptions
from tsdistill.statistics.prepared_data import prepare

FEWEST_SAMPLES, MOST_SAMPLES = 64, 1024
"""Bounds of the number of samples that alignment is measured on. A correlation of n independent values has a
standard error of about 1/sqrt(n): 0.125 for 64 and 0.03 for 1,024, before positions of a map are counted."""
_EPOCH_SHARE = 64
"""Training samples of an epoch for each sample that alignment is measured on, see `tracked_samples`."""

_POSITIONS = 32
"""Positions of a feature map that are read in each sample: neighbouring positions are correlated, so more of
them cost memory and say little."""


def tracked_samples(samples: int | None) -> int:
    """How many samples are looked at in each epoch of ``samples``: one in 64, at least 64 and at most 1,024.

    A step costs a forward of the teacher and three of the student, a look one of each, so the forwards of a
    look at one sample in 64 are under 1.6 % of an epoch (of 4,096 samples or more).
    """
    return (
        FEWEST_SAMPLES if samples is None else min(MOST_SAMPLES, max(FEWEST_SAMPLES, samples // _EPOCH_SHARE))
    )


class AlignmentTracker:
    """Mean best correlation of the teacher's nodes with the student's, group by group, over a training.

    The samples, the pairs of groups and the strengths of the teacher's nodes are fixed at the beginning, so
    that all epochs can be compared. In a job of several processes all of them make one and call `measure`
    together. At most 32 positions of a map are read in each sample.

    Args:
        student: the bare student.
        teacher: the bare teacher.
        batches: the samples that are looked at, on the models' device; see `tracked_samples`.
        seed: of the positions that are looked at and of the strengths.
        pairs: student group -> teacher group, which overrides what is found.
        description: of the data, for the report.

    Attributes:
        pairs: student group -> teacher group.
        notes: lines for the user.

    Raises:
        TsdistillError: no samples, or groups that cannot be paired.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        batches: Batches,
        *,
        seed: int = 0,
        pairs: Mapping[str, str] | None = None,
        description: str = "samples of the training data",
    ) -> None:
        self._samples = batches if isinstance(batches, Samples) else Samples(batches)
        self._seed, self._description = seed, description
        self._paired = PairedGroups(student, teacher, self._samples, pairs)
        self._sensitivity = self._paired.sensitivity(self._samples, self._samples.samples, seed)
        self._strength: dict[str, np.ndarray] = {}
        self._best: dict[str, list[np.ndarray]] = {}
        self._names: list[str] = []
        self.pairs, self.notes = self._paired.pairs, self._paired.notes

    def measure(self, name: str) -> dict[str, float]:
        """Measure the alignment of the student at this point of the training.

        Args:
            name: of this point of the training, such as ``"epoch 3"``.

        Returns:
            figures for the log: ``alignment`` (the mean over groups of the mean best correlation of the
            teacher's nodes, those of strength 0, which do nothing, left out), ``alignment/strong``,
            ``/middle``, ``/weak`` (thirds by strength, all groups together), ``aligned`` (teacher nodes from
            0.9 on), and ``alignment/GROUP`` of each group.

        Raises:
            TsdistillError: activations that are not finite.
        """
        moments = self._paired.moments(self._samples, self._seed, positions=_POSITIONS)
        if not self._strength:
            self._strength = strengths(moments, self._sensitivity)
        best = {name: np.nan_to_num(table).max(0) for name, table in similarities(moments).items()}
        if self._names[-1:] == [name]:
            self._forget()
        self._names.append(name)
        for group, values in best.items():
            self._best.setdefault(group, []).append(values)
        return self._figures()

    def _forget(self) -> None:
        self._names.pop()
        for rows in self._best.values():
            rows.pop()

    def _figures(self) -> dict[str, float]:
        groups = self._groups(slice(-1, None))
        acting = {group.name: group.best[-1, np.concatenate(group.by_strength())] for group in groups}
        means = {name: float(best.mean()) for name, best in acting.items() if len(best)}
        thirds = _thirds(groups)
        return {
            "alignment": float(np.mean(list(means.values()))) if means else float("nan"),
            **{f"alignment/{third}": value for third, value in thirds.items() if not np.isnan(value)},
            "aligned": float(sum(int(group.aligned[-1]) for group in groups)),
            **{f"alignment/{name}": value for name, value in means.items()},
        }

    def _groups(self, rows: slice) -> tuple[GroupHistory, ...]:
        threshold = Thresholds().aligned
        return tuple(
            GroupHistory(name, self.pairs[name], self._strength[name], np.stack(best[rows]), threshold)
            for name, best in self._best.items()
        )

    @property
    def names(self) -> tuple[str, ...]:
        """What the points that were looked at are called."""
        return tuple(self._names)

    def history(self) -> AlignmentHistory:
        """Everything that was seen, with the whole report of the student as it is now, for
        `tsdistill.report`.

        The last point is that of the report.

        Raises:
            TsdistillError: nothing was looked at.
        """
        if not self._names:
            raise TsdistillError("there is no measurement yet; call measure() first")
        student, teacher = self._paired.student.model, self._paired.teacher.model
        batches = list(self._samples)
        example = self._paired.example
        prepared = prepare(
            student, batches, DataOptions(example_input=example), teacher=teacher, seed=self._seed
        )
        final = analyze_prepared(
            student,
            teacher,
            prepared,
            AnalysisOptions(
                pairs=self.pairs,
                positions=_POSITIONS,
                strength_samples=self._samples.samples,
                strength_target=None,
                for_pruning=False,
            ),
            seed=self._seed,
            graph=self._paired.student.graph,
        )
        note = f"alignment during training on {self._samples.samples} samples ({self._description})"
        return AlignmentHistory(
            names=self.names,
            metric=final.metric,
            teacher_arch=info_of(teacher).arch,
            data=self._description,
            groups=self._groups(slice(None)),
            notes=(note, *self.notes),
            final=final,
        )

    def state_dict(self) -> dict[str, Any]:
        """What was seen, as tensors, numbers and strings."""
        return {
            "names": list(self._names),
            "best": {name: torch.from_numpy(np.stack(rows)) for name, rows in self._best.items()},
            "strength": {name: torch.from_numpy(values) for name, values in self._strength.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what another tracker of the same models has seen.

        Raises:
            TsdistillError: it saw other groups.
        """
        if not set(state["best"]) <= set(self.pairs):
            raise TsdistillError(
                "the alignment that was seen so far is of other groups; resume with the student and the "
                "teacher that the run began with"
            )
        self._names = list(state["names"])
        self._best = {name: list(rows.numpy()) for name, rows in state["best"].items()}
        self._strength = {name: values.numpy() for name, values in state["strength"].items()}


def _thirds(groups: tuple[GroupHistory, ...]) -> dict[str, float]:
    """Mean best correlation of strong, middle and weak teacher nodes at the last point, thirds of each group;
    NaN where there are none."""
    by_third: dict[str, list[np.ndarray]] = {third: [] for third in THIRDS}
    for group in groups:
        for third, nodes in zip(THIRDS, group.by_strength(), strict=True):
            by_third[third].append(group.best[-1, nodes])
    return {
        third: float(values.mean()) if (values := np.concatenate(parts)).size else float("nan")
        for third, parts in by_third.items()
    }
