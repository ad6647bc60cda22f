"""The alignment report: per group and node, what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tsdistill.alignment.observe import Observation
from tsdistill.alignment.sites import Sites
from tsdistill.tracing.graph import NodeGraph

FORMAT = 1


@dataclass(frozen=True)
class Thresholds:
    """Where words begin to apply.

    Attributes:
        aligned: best correlation with a teacher node at or above which a node is aligned.
        weak: share of the group's largest strength below which a node is weak.
        redundant: share of variance explained by the group's other nodes at or above which it is redundant.
    """

    aligned: float = 0.9
    weak: float = 0.01
    redundant: float = 0.99


@dataclass(frozen=True, eq=False)
class GroupReport:
    """One group of the student. All arrays run over its nodes, ``[size]``.

    Attributes:
        name: the group.
        size: number of nodes.
        readers: layers that read it, in forward order.
        teacher_group: its partner; its own name when the model is its own teacher; ``None`` without a
            partner.
        teacher_size: number of nodes of the partner.
        observed: whether any reading layer could be observed; without that nothing but norms is known and the
            group is left whole.
        samples: samples (positions counted) behind the moments.
        fan_out_norm: ‖v_k‖.
        standardised_norm: ‖v_k‖σ_k, the fan-out norm of the node at unit variance.
        sensitivity: sqrt E[β_kk], summed over what reads the node.
        strength: scale-free strength s_k.
        best: index of the most alike teacher node (without a teacher: most alike *other* node); -1 for none.
        similarity: the metric's value for that node (0 for none).
        teacher_strength: strength of the teacher's nodes ``[teacher_size]``.
        teacher_best: best value of the metric that each teacher node gets ``[teacher_size]``.
        r2: share of variance that the group's other nodes explain.
        dead: no variance.
        weak: strength below 1 % of the group's largest.
        redundant: r2 at or above 0.99.
        aligned: similarity at or above 0.9.
        free: can leave, all of them together, without any change of the function (never read, always 0, or
            a multiple of a node that stays).
        candidate: dead, weak or redundant, chosen so that all of them can go together.
        teacher_aligned: number of teacher nodes that have an aligned student node.
        params_saved: parameters that go with the candidates of this group.
        macs_saved: MACs that go with them.
    """

    name: str
    size: int
    readers: tuple[str, ...]
    teacher_group: str | None
    teacher_size: int
    observed: bool
    samples: int
    fan_out_norm: np.ndarray
    standardised_norm: np.ndarray
    sensitivity: np.ndarray
    strength: np.ndarray
    best: np.ndarray
    similarity: np.ndarray
    teacher_strength: np.ndarray
    teacher_best: np.ndarray
    r2: np.ndarray
    dead: np.ndarray
    weak: np.ndarray
    redundant: np.ndarray
    aligned: np.ndarray
    free: np.ndarray
    candidate: np.ndarray
    teacher_aligned: int
    params_saved: int
    macs_saved: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data: scalars of the group, and one list per figure under ``"nodes"``."""
        scalars: dict[str, Any] = {}
        nodes: dict[str, Any] = {}
        teacher: dict[str, Any] = {}
        for key, value in self.__dict__.items():
            if isinstance(value, np.ndarray):
                place = teacher if key.startswith("teacher_") else nodes
                place[key.removeprefix("teacher_") if place is teacher else key] = _plain(value)
            else:
                scalars[key] = list(value) if isinstance(value, tuple) else value
        return {
            **scalars,
            "candidates": int(self.candidate.sum()),
            "nodes": nodes,
            "teacher_nodes": teacher,
        }


def _plain(values: np.ndarray) -> list[Any]:
    if values.dtype.kind == "f":
        return [float(f"{value:.7g}") for value in np.nan_to_num(values)]
    return values.tolist()


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the report was made from, kept in memory for planning and pruning, never written.

    Attributes:
        sites: where the student was observed.
        observed: moments of the student and of the pairs.
        sensitivity: E[β] of every feature, per site key.
    """

    sites: Sites
    observed: Observation
    sensitivity: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class AlignmentReport:
    """A student beside a teacher, or beside itself.

    Attributes:
        arch: architecture of the student, ``None`` when it is not known.
        teacher_arch: that of the teacher; ``None`` also without a teacher.
        has_teacher: whether another model served as the teacher.
        data: description of the data.
        synthetic: whether the data was synthetic.
        input: how inputs were prepared, in words.
        samples: number of samples seen.
        metric: name of the metric behind ``best`` and ``similarity``.
        thresholds: where words begin to apply.
        params: parameters of the student.
        macs: MACs of the student at batch 1.
        params_saved: parameters that go with the candidates of all groups.
        macs_saved: MACs that go with them.
        groups: one entry per group, in forward order.
        notes: lines for the user.
        graph: the student's node graph (not in ``to_dict``).
        statistics: what planning needs (not in ``to_dict``).
    """

    arch: str | None
    teacher_arch: str | None
    has_teacher: bool
    data: str
    synthetic: bool
    input: str
    samples: int
    metric: str
    thresholds: Thresholds
    params: int
    macs: int
    params_saved: int
    macs_saved: int
    groups: tuple[GroupReport, ...]
    notes: tuple[str, ...]
    graph: NodeGraph = field(repr=False)
    statistics: Statistics = field(repr=False)

    @cached_property
    def by_name(self) -> dict[str, GroupReport]:
        """Groups by name."""
        return {group.name: group for group in self.groups}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data without NaN: ``{"format": 1, "kind": "alignment", ..., "groups": [...]}``."""
        skip = ("groups", "graph", "statistics", "thresholds", "notes", "by_name")
        return {
            "format": FORMAT,
            "kind": "alignment",
            **{key: value for key, value in self.__dict__.items() if key not in skip},
            "thresholds": dict(self.thresholds.__dict__),
            "frozen": [{"name": item.name, "cause": item.cause} for item in self.graph.frozen],
            "notes": list(self.notes),
            "groups": [group.to_dict() for group in self.groups],
        }

    def __str__(self) -> str:
        lines = [
            f"{self.arch or 'model'} beside {self._beside()}: {len(self.groups)} groups, "
            f"{self.params:,} parameters, {self.macs:,} MACs; data: {self.data} ({self.samples} samples)"
        ]
        for group in self.groups:
            lines.append(
                f"  {group.name}: {group.size} nodes, {group.teacher_aligned} of {group.teacher_size} "
                f"teacher nodes aligned, {int(group.candidate.sum())} candidates"
            )
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _beside(self) -> str:
        return (self.teacher_arch or "a teacher") if self.has_teacher else "itself"
