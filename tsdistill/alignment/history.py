"""How alignment grew over a training: per teacher node and checkpoint, the best similarity it got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from tsdistill.alignment.report import AlignmentReport

FORMAT = 1
"""Version of the JSON of a history; see docs/files.md."""

THIRDS = ("strong", "middle", "weak")
_FEWEST = 3
"""Nodes of a group from which a rank correlation of strength and alignment is computed: two always have
one of 1 or -1."""


@dataclass(frozen=True, eq=False)
class GroupHistory:
    """One pair of groups over K checkpoints; T teacher nodes.

    Attributes:
        name: the student's group.
        teacher_group: its partner in the teacher.
        teacher_strength: float64 ``[T]``, scale-free strength of the teacher's nodes.
        best: float64 ``[K, T]``, the best similarity that each teacher node has at each checkpoint.
        threshold: similarity from which a node is aligned.
    """

    name: str
    teacher_group: str
    teacher_strength: np.ndarray
    best: np.ndarray
    threshold: float

    @property
    def aligned(self) -> np.ndarray:
        """int64 ``[K]``: teacher nodes that are aligned at each checkpoint."""
        return (self.best >= self.threshold).sum(1)

    def by_strength(self) -> tuple[np.ndarray, ...]:
        """Teacher nodes in thirds, the strongest first; those of strength 0, which do nothing, are left out.

        Returns:
            three int64 arrays of nodes; what three does not divide goes to the stronger thirds.
        """
        order = np.argsort(-self.teacher_strength, kind="stable")
        return tuple(np.array_split(order[self.teacher_strength[order] > 0], len(THIRDS)))

    def thirds(self) -> np.ndarray:
        """float64 ``[K, 3]``: mean best similarity of the strong, middle and weak thirds (NaN where
        empty)."""
        return _means([[self.best[:, nodes]] for nodes in self.by_strength()], len(self.best))

    def first_aligned(self) -> np.ndarray:
        """int64 ``[T]``: the first checkpoint from which on a teacher node stays aligned, -1 for never."""
        stays = np.logical_and.accumulate((self.best >= self.threshold)[::-1])[::-1]
        return np.where(stays.any(0), stays.argmax(0), -1)

    def strong_first(self) -> float:
        """Whether the strong ones came first: Spearman's ρ of a teacher node's strength with its best
        similarity, averaged over the checkpoints. NaN for fewer than three nodes, or when nothing differs.
        """
        nodes = np.concatenate(self.by_strength())
        strengths, means = self.teacher_strength[nodes], self.best[:, nodes].mean(0)
        if len(nodes) < _FEWEST or np.ptp(strengths) == 0 or np.ptp(means) == 0:
            return float("nan")
        return float(spearmanr(strengths, means).statistic)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; ``None`` where a figure is not defined."""
        return {
            "name": self.name,
            "teacher_group": self.teacher_group,
            "teacher_strength": _plain(self.teacher_strength),
            "best": _plain(self.best),
            "aligned": self.aligned.tolist(),
            "first_aligned": self.first_aligned().tolist(),
            "thirds": _by_name(self.thirds()),
            "strong_first": _plain(self.strong_first()),
        }


@dataclass(frozen=True, eq=False)
class AlignmentHistory:
    """Checkpoints of one student's training, compared with one teacher.

    Attributes:
        names: what the K checkpoints are called, in the order of the training.
        metric: name of the metric behind every similarity.
        teacher_arch: architecture of the teacher, ``None`` when it is not known.
        data: description of the data.
        groups: one entry per pair of groups; the pairs are those of the last checkpoint.
        notes: lines for the user.
        final: the whole report of the last checkpoint.
    """

    names: tuple[str, ...]
    metric: str
    teacher_arch: str | None
    data: str
    groups: tuple[GroupHistory, ...]
    notes: tuple[str, ...]
    final: AlignmentReport = field(repr=False)

    @cached_property
    def by_name(self) -> dict[str, GroupHistory]:
        """Groups by name."""
        return {group.name: group for group in self.groups}

    @property
    def aligned(self) -> np.ndarray:
        """int64 ``[K]``: teacher nodes of all groups that are aligned at each checkpoint."""
        return np.sum([group.aligned for group in self.groups], axis=0)

    @property
    def teacher_nodes(self) -> int:
        """Teacher nodes of all groups."""
        return sum(len(group.teacher_strength) for group in self.groups)

    def thirds(self, group: str | None = None) -> np.ndarray:
        """float64 ``[K, 3]``: mean best similarity of the strong, middle and weak thirds of the teacher's
        nodes.

        Args:
            group: of this group; of all of them without it (thirds are those within each group).
        """
        if group is not None:
            return self.by_name[group].thirds()
        split = [(each, each.by_strength()) for each in self.groups]
        columns = [[each.best[:, thirds[third]] for each, thirds in split] for third in range(len(THIRDS))]
        return _means(columns, len(self.names))

    def first_aligned(self, group: str) -> np.ndarray:
        """int64 ``[T]`` of a group: the first checkpoint from which on a teacher node stays aligned, -1
        never."""
        return self.by_name[group].first_aligned()

    def strong_first(self) -> float:
        """Spearman's ρ of strength with similarity averaged over the checkpoints, within each group.

        1 when stronger teacher nodes were always learnt better and earlier, 0 when strength made no
        difference. The mean over groups, each by its number of teacher nodes; NaN where no group has one.
        """
        figures = np.array([group.strong_first() for group in self.groups])
        nodes = np.array([len(group.teacher_strength) for group in self.groups])
        defined = ~np.isnan(figures)
        return float(np.average(figures[defined], weights=nodes[defined])) if defined.any() else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data without NaN: ``{"format": 1, "kind": "alignment over training", ...}``."""
        return {
            "format": FORMAT,
            "kind": "alignment over training",
            "names": list(self.names),
            "metric": self.metric,
            "teacher_arch": self.teacher_arch,
            "data": self.data,
            "teacher_nodes": self.teacher_nodes,
            "aligned": self.aligned.tolist(),
            "thirds": _by_name(self.thirds()),
            "strong_first": _plain(self.strong_first()),
            "notes": list(self.notes),
            "groups": [group.to_dict() for group in self.groups],
            "final": self.final.to_dict(),
        }

    def __str__(self) -> str:
        counts = f"{self.aligned[0]} to {self.aligned[-1]} of {self.teacher_nodes}"
        return (
            f"{len(self.names)} checkpoints, {self.names[0]} to {self.names[-1]}: {counts} teacher nodes "
            f"aligned; strong ones first: ρ = {self.strong_first():.2f}"
        )


def _means(columns: Sequence[Sequence[np.ndarray]], rows: int) -> np.ndarray:
    """One mean per row and column, over the ``[rows, *]`` blocks of a column; NaN where there is nothing."""
    means = np.full((rows, len(columns)), np.nan)
    for place, blocks in enumerate(columns):
        block = np.concatenate([np.zeros((rows, 0)), *blocks], axis=1)
        if block.shape[1]:
            means[:, place] = block.mean(1)
    return means


def _by_name(thirds: np.ndarray) -> dict[str, list[float | None]]:
    return {name: _plain(thirds[:, place]) for place, name in enumerate(THIRDS)}


def _plain(value: Any) -> Any:
    """Lists of floats of seven digits, ``None`` for NaN."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value]
    return None if np.isnan(value) else float(f"{value:.7g}")
