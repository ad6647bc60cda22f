"""The alignment report: per group and node, what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from tsdistill.alignment.matching.group_matching import GroupMatching
from tsdistill.alignment.matching.node_matching import NodeMatches, figures
from tsdistill.alignment.predicted_cuts import PredictedCuts
from tsdistill.alignment.thresholds import Thresholds
from tsdistill.errors import TsdistillError
from tsdistill.statistics.fan_out import FanOut
from tsdistill.statistics.observation import Observation
from tsdistill.statistics.outer_products import QueryReaders
from tsdistill.statistics.prepared_data import PreparedData
from tsdistill.statistics.redundancy import Compensation
from tsdistill.statistics.sensitivity_passes import StrengthEstimate
from tsdistill.statistics.sites import ModelSites
from tsdistill.tracing.branches import Branch
from tsdistill.tracing.graph import NodeGraph

if TYPE_CHECKING:
    from pandas import DataFrame

FORMAT = 1
"""Version of the JSON of a report; see docs/files.md."""


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
        strength_error: its standard error, over samples and random directions of the output; the strength
            itself where there are too few samples to tell.
        best: index of the most alike teacher node (without a teacher: most alike *other* node); -1 for none.
        similarity: the metric's value for that node (0 for none).
        teacher_strength: strength of the teacher's nodes ``[teacher_size]``.
        teacher_strength_error: its standard error, likewise.
        teacher_best: best value of the metric that each teacher node gets ``[teacher_size]``.
        matches: one entry per metric that compares nodes, the report's own metric first; ``best``,
            ``similarity`` and ``teacher_best`` are those of the first. Empty without a partner.
        scores: values of the metrics that compare whole groups, by name.
        compared: how positions of the two were brought together, such as ``"14x14 positions"``.
        r2: share of variance that the group's other nodes explain.
        leaving_r2: share that the nodes still there explain at the moment a node leaves, when dead and weak
            nodes go first and then whichever is explained best, one after the other; never rising along that
            order. Nodes with ``leaving_r2`` at or above a threshold can all go together. 1 for dead and weak
            nodes, 0 for those that are never reached.
        on: share of samples at which the node is above 0.
        dead: no variance.
        saturated: a rectified node that is above 0 on every sample seen, so that it is linear.
        weak: strength below 1 % of the group's largest.
        redundant: r2 at or above 0.99.
        aligned: similarity at or above 0.9.
        free: can leave, all of them together, without any change of the function on the data seen (never
            read, always 0, a constant that its readers have a place for, or a multiple of a node that stays).
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
    strength_error: np.ndarray
    best: np.ndarray
    similarity: np.ndarray
    teacher_strength: np.ndarray
    teacher_strength_error: np.ndarray
    teacher_best: np.ndarray
    matches: Mapping[str, NodeMatches]
    scores: Mapping[str, float]
    compared: str
    r2: np.ndarray
    leaving_r2: np.ndarray
    on: np.ndarray
    dead: np.ndarray
    saturated: np.ndarray
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
            elif key == "matches":
                scalars[key] = {name: matches.to_dict() for name, matches in value.items()}
            else:
                scalars[key] = list(value) if isinstance(value, tuple) else value
        return {
            **scalars,
            "candidates": int(self.candidate.sum()),
            "nodes": nodes,
            "teacher_nodes": teacher,
        }


def _plain(values: np.ndarray) -> list[Any]:
    return figures(values) if values.dtype.kind == "f" else values.tolist()


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the report was made from, kept in memory for planning and pruning, never written.

    Attributes:
        sites: where the student was observed.
        observed: moments of the student and of the pairs.
        sensitivity: E[β] of every feature, per site key.
        taking: how the layer at every site can compensate exactly, per site key.
        fan_outs: what the layers at the sites make of what they read, per site key; empty when it was not
            asked for.
        queries: groups of coordinates of heads -> where they are multiplied with one another.
        products: what the output makes of these products, float64 ``[nodes]`` (see `products.Products`).
        rebased: what was observed in place of the student, which computes the same: its nodes are meant.
        output_power: E‖f‖², the mean squared norm of all floating outputs of a sample.
        model: what was observed; the nodes are its.
        data: what it was observed on.
    """

    sites: ModelSites
    observed: Observation
    sensitivity: Mapping[str, np.ndarray]
    taking: Mapping[str, Compensation]
    fan_outs: Mapping[str, FanOut] = field(default_factory=dict)
    queries: Mapping[str, QueryReaders] = field(default_factory=dict)
    products: Mapping[str, np.ndarray] = field(default_factory=dict)
    rebased: nn.Module | None = None
    output_power: float = 0.0
    model: nn.Module | None = None
    data: PreparedData | None = None


@dataclass(frozen=True, eq=False)
class AlignmentReport:
    """A student compared with a teacher, or with itself.

    Attributes:
        name: what the student was loaded from, a file's path or a specification; ``None`` for a module.
        teacher_name: the same of the teacher.
        arch: architecture of the student, ``None`` when it is not known.
        teacher_arch: that of the teacher; ``None`` also without a teacher.
        has_teacher: whether another model served as the teacher.
        data: description of the data.
        synthetic: whether the data was synthetic.
        input: how inputs were prepared, in words.
        samples: number of samples seen.
        metric: name of the metric behind ``best`` and ``similarity``.
        metrics: names of all metrics that were asked for, in that order.
        failed: metrics that raised, with what they said; the others are there.
        seconds: where the time went, by phase: ``tracing``, ``matching``, ``forward`` (both models),
            ``moments``, ``covariances``, ``strength``, ``description``.
        thresholds: where words begin to apply.
        params: parameters of the student.
        macs: MACs of the student at batch 1.
        params_saved: parameters that go with the candidates of all groups.
        macs_saved: MACs that go with them.
        groups: one entry per group, in forward order.
        notes: lines for the user.
        strength_estimate: how the strength of the nodes was measured, and how sure it is.
        teacher_strength_estimate: the same of the teacher; ``None`` without one.
        matching: which groups of the two models are paired, and how that was found; ``None``
            without a teacher.
        graph: the student's node graph (not in ``to_dict``).
        statistics: what planning needs (not in ``to_dict``).
        cuts: what cuts of the student would cost, where that was asked for (`tsdistill.predict_cuts`).
        branches: residual branches of the student (`tsdistill.trace_branches`).
    """

    name: str | None
    teacher_name: str | None
    arch: str | None
    teacher_arch: str | None
    has_teacher: bool
    data: str
    synthetic: bool
    input: str
    samples: int
    metric: str
    metrics: tuple[str, ...]
    failed: Mapping[str, str]
    seconds: Mapping[str, float]
    thresholds: Thresholds
    params: int
    macs: int
    params_saved: int
    macs_saved: int
    groups: tuple[GroupReport, ...]
    notes: tuple[str, ...]
    strength_estimate: StrengthEstimate
    teacher_strength_estimate: StrengthEstimate | None
    matching: GroupMatching | None
    graph: NodeGraph = field(repr=False)
    statistics: Statistics = field(repr=False)
    cuts: PredictedCuts | None = None
    branches: tuple[Branch, ...] = ()

    @cached_property
    def by_name(self) -> dict[str, GroupReport]:
        """Groups by name."""
        return {group.name: group for group in self.groups}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data without NaN: ``{"format": 1, "kind": "alignment", ..., "groups": [...]}``."""
        skip = (
            "groups",
            "graph",
            "statistics",
            "thresholds",
            "notes",
            "matching",
            "by_name",
            "cuts",
        )
        estimates = {
            name: asdict(estimate) if estimate else None
            for name, estimate in self.__dict__.items()
            if name.endswith("strength_estimate")
        }
        return {
            "format": FORMAT,
            "kind": "alignment",
            **{key: value for key, value in self.__dict__.items() if key not in (*skip, *estimates)},
            **estimates,
            "thresholds": dict(self.thresholds.__dict__),
            "frozen": [{"name": item.name, "cause": item.cause} for item in self.graph.frozen],
            "notes": list(self.notes),
            "matching": asdict(self.matching) if self.matching else None,
            "cuts": self.cuts.to_dict() if self.cuts else None,
            "branches": [asdict(branch) for branch in self.branches],
            "groups": [group.to_dict() for group in self.groups],
        }

    def to_dataframe(self) -> DataFrame:
        """A pandas table with one row a node: figures, match and flags, see `to_dataframe`.

        Raises:
            TsdistillError: pandas is not installed.
        """
        return to_dataframe(self)

    def __str__(self) -> str:
        lines = [
            f"{self.name or self.arch or 'model'} beside {self._reference()}: {len(self.groups)} groups, "
            f"{self.params:,} parameters, {self.macs:,} MACs; data: {self.data} ({self.samples} samples)"
        ]
        lines += [
            f"  {group.name}: {group.size} nodes, {group.teacher_aligned} of {group.teacher_size} "
            f"teacher nodes aligned, {int(group.candidate.sum())} candidates"
            for group in self.groups
        ]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _reference(self) -> str:
        return (self.teacher_name or self.teacher_arch or "a teacher") if self.has_teacher else "itself"


FIGURES = (
    "strength",
    "strength_error",
    "standardised_norm",
    "fan_out_norm",
    "sensitivity",
    "r2",
    "leaving_r2",
    "on",
)


FLAGS = ("aligned", "dead", "weak", "redundant", "saturated", "free", "candidate")


def rows(report: AlignmentReport) -> list[dict[str, Any]]:
    """One dict a node, groups in forward order: plain Python values (see `to_dataframe` for the columns)."""
    further = further_metrics(report)
    return [row for group in report.groups for row in _rows(group, further)]


def to_dataframe(report: AlignmentReport) -> DataFrame:
    """The report as a pandas table, one row a node.

    Columns: ``group``, ``node``; the figures ``strength``, ``strength_error`` (its standard error),
    ``standardised_norm``, ``fan_out_norm``, ``sensitivity``, ``r2``, ``leaving_r2``, ``on``;
    ``teacher_group``, ``best`` (node of the teacher, missing for none), ``similarity`` (missing without a
    match), ``similarity_<metric>`` for every further metric that compares nodes; the flags ``aligned``,
    ``dead``, ``weak``, ``redundant``, ``saturated``, ``free``,
    ``candidate``.

    Raises:
        TsdistillError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise TsdistillError("a table needs pandas, which is not installed; pip install pandas") from error
    further = [f"similarity_{name}" for name in further_metrics(report)]
    names = ["group", "node", *FIGURES, "teacher_group", "best", "similarity", *further, *FLAGS]
    table = pd.DataFrame(rows(report), columns=names)
    return table.astype({"best": "Int64", **dict.fromkeys(("similarity", *further), "float64")})


def further_metrics(report: AlignmentReport) -> list[str]:
    """Metrics that compare nodes besides the report's own, in the order asked for."""
    node_metrics = {name for group in report.groups for name in group.matches}
    return [name for name in report.metrics if name in node_metrics and name != report.metric]


def _rows(group: GroupReport, further: list[str]) -> list[dict[str, Any]]:
    best = group.best.tolist()
    columns: dict[str, list[Any]] = {
        **{name: getattr(group, name).tolist() for name in FIGURES},
        "teacher_group": [group.teacher_group] * group.size,
        "best": [node if node >= 0 else None for node in best],
        "similarity": _matched(group.best, group.similarity),
    }
    for name in further:
        matches = group.matches.get(name)
        columns[f"similarity_{name}"] = (
            _matched(matches.best, matches.similarity) if matches else [None] * group.size
        )
    columns.update({name: getattr(group, name).tolist() for name in FLAGS})
    return [
        {"group": group.name, "node": node, **{name: column[node] for name, column in columns.items()}}
        for node in range(group.size)
    ]


def _matched(best: np.ndarray, similarity: np.ndarray) -> list[float | None]:
    return [value if node >= 0 else None for node, value in zip(best, similarity.tolist(), strict=True)]
