"""Reports made by hand from invented activations: every kind of node, and a real node graph for the costs."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from tsdistill.alignment.history import AlignmentHistory, GroupHistory
from tsdistill.alignment.matching.node_matching import NodeMatches, match_nodes
from tsdistill.alignment.report import AlignmentReport, GroupReport
from tsdistill.alignment.thresholds import Thresholds
from tsdistill.statistics.sensitivity_passes import StrengthEstimate
from tsdistill.tracing import NodeGraph, trace

WIDTHS = {"first": 40, "second": 24, "third": 16}
TEACHERS = {"first": 12, "second": 9}
SAMPLES = 400


def made_graph() -> NodeGraph:
    """Three groups: a convolution, whose nodes are four features each to what reads them, and two layers."""
    first, second, third = WIDTHS.values()
    model = nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(1, first, 3),
            first_relu=nn.ReLU(),
            flat=nn.Flatten(),
            second=nn.Linear(4 * first, second),
            second_relu=nn.ReLU(),
            third=nn.Linear(second, third),
            third_relu=nn.ReLU(),
            last=nn.Linear(third, 4),
        )
    )
    return trace(model.eval(), torch.zeros(1, 1, 4, 4))


def matches_of(metric: str, student: np.ndarray, teacher: np.ndarray | None) -> NodeMatches:
    """Correlations of activations ``[samples, nodes]``, squared for any metric of another name."""
    beside = student if teacher is None else teacher
    with np.errstate(invalid="ignore"):
        table = np.corrcoef(student, beside, rowvar=False)[: student.shape[1], -beside.shape[1] :]
    table = np.nan_to_num(table) if metric == "correlation" else np.nan_to_num(table) ** 2
    return match_nodes(metric, table, own=teacher is None)


def made_group(
    name: str,
    graph: NodeGraph,
    thresholds: Thresholds,
    *,
    metrics: tuple[str, ...],
    own: bool,
    seed: int,
    all_leave: bool = False,
) -> GroupReport:
    """One group: two in three nodes follow a teacher node, the first is dead, the next two are weak."""
    rng = np.random.default_rng(seed)
    size, teachers = WIDTHS[name], TEACHERS.get(name, 0)
    teacher = np.maximum(rng.normal(size=(SAMPLES, max(teachers, 3))), 0)
    noise = np.maximum(rng.normal(size=(SAMPLES, size)), 0)
    blend = np.where(np.arange(size) % 3 < 2, rng.uniform(0.0, 0.6, size), 4.0)
    student = teacher[:, rng.integers(0, teacher.shape[1], size)] + blend * noise
    student[:, 0] = 0
    teacher_strength = 1 / (1 + np.arange(teachers)) ** 0.7
    strength = np.where(blend < 1, 0.2 + rng.random(size), 0.05 * rng.random(size) + 0.02)
    strength[0], strength[1:3] = 0, 0.001
    leaving = rng.permutation(np.linspace(0.4, 1.0, size))
    dead, weak = np.arange(size) == 0, np.isin(np.arange(size), (1, 2))
    leaving[:3] = 1
    if all_leave:
        leaving[:] = 0.999
    candidate = dead | weak | (leaving >= thresholds.redundant)
    if candidate.all():
        candidate[strength.argmax()] = False
    partner = own or teachers > 0
    matches = {
        metric: matches_of(metric, student, None if own else teacher[:, :teachers])
        for metric in metrics
        if partner
    }
    first = next(iter(matches.values()), match_nodes("correlation", np.zeros((size, 0))))
    kept = {name: size - int(candidate.sum())}
    return GroupReport(
        name=name,
        size=size,
        readers=tuple(reader.module or reader.param for reader in graph.by_name[name].readers),
        teacher_group=name if partner else None,
        teacher_size=size if own else teachers,
        observed=True,
        samples=SAMPLES,
        fan_out_norm=strength * 2,
        standardised_norm=strength * rng.uniform(0.8, 1.2, size),
        sensitivity=strength * 0.7,
        strength=strength,
        strength_error=0.04 * strength,
        best=first.best,
        similarity=first.similarity,
        teacher_strength=strength if own else teacher_strength,
        teacher_strength_error=0.04 * (strength if own else teacher_strength),
        teacher_best=first.teacher_similarity,
        matches=matches,
        scores={"cka": 0.75} if partner else {},
        compared="1 position" if partner else "",
        r2=np.minimum(leaving + 0.01, 1),
        leaving_r2=leaving,
        on=(student > 0).mean(0),
        dead=dead,
        saturated=(student > 0).all(0),
        weak=weak,
        redundant=leaving + 0.01 >= thresholds.redundant,
        aligned=(first.best >= 0) & (first.similarity >= thresholds.aligned),
        free=dead,
        candidate=candidate,
        teacher_aligned=int((first.teacher_similarity >= thresholds.aligned).sum()),
        params_saved=graph.params() - graph.params(kept),
        macs_saved=graph.macs() - graph.macs(kept),
    )


def made_report(
    *,
    own: bool = False,
    metrics: tuple[str, ...] = ("correlation", "cosine"),
    thresholds: Thresholds | None = None,
    rename: dict[str, str] | None = None,
    **changed: Any,
) -> AlignmentReport:
    """Three groups; beside a teacher the third has no partner, and of the second every node could leave.

    Args:
        own: the model is its own teacher.
        metrics: that compare nodes.
        thresholds: where words begin to apply.
        rename: other names for groups.
        changed: other fields of the report.
    """
    thresholds = thresholds or Thresholds()
    graph = made_graph()
    groups = tuple(
        made_group(name, graph, thresholds, metrics=metrics, own=own, seed=seed, all_leave=name == "second")
        for seed, name in enumerate(WIDTHS)
    )
    kept = {group.name: group.size - int(group.candidate.sum()) for group in groups}
    report = AlignmentReport(
        name="runs/made_student.pt",
        teacher_name=None if own else "made_teacher.pt",
        arch="made_student",
        teacher_arch=None if own else "made_teacher",
        has_teacher=not own,
        data="400 invented samples",
        synthetic=True,
        input="12 numbers",
        samples=SAMPLES,
        metric=metrics[0],
        metrics=(*metrics, "cka"),
        failed={},
        seconds={"tracing": 0.05, "forward": 1.25, "moments": 0.2},
        thresholds=thresholds,
        params=graph.params(),
        macs=graph.macs(),
        params_saved=graph.params() - graph.params(kept),
        macs_saved=graph.macs() - graph.macs(kept),
        groups=groups,
        notes=("a note for the reader",),
        strength_estimate=StrengthEstimate(4, True, 256, 1024, 0.05, 0.04),
        teacher_strength_estimate=None if own else StrengthEstimate(1000, False, 512, 512, 0.05, 0.031),
        matching=None,
        graph=graph,
        statistics=cast(Any, None),
    )
    return renamed(replace(report, **changed), rename or {})


def renamed(report: AlignmentReport, names: dict[str, str]) -> AlignmentReport:
    """The same report with other names of groups, in its graph too."""
    graph = report.graph

    def term(item: Any) -> Any:
        factors = tuple(
            (fixed, tuple((names.get(group, group), m) for group, m in parts))
            for fixed, parts in item.factors
        )
        return replace(item, factors=factors)

    return replace(
        report,
        graph=replace(
            graph,
            groups=tuple(replace(group, name=names.get(group.name, group.name)) for group in graph.groups),
            operations=tuple(map(term, graph.operations)),
            sizes=tuple(map(term, graph.sizes)),
        ),
        groups=tuple(
            replace(
                group,
                name=names.get(group.name, group.name),
                teacher_group=names.get(group.teacher_group or "", group.teacher_group),
            )
            for group in report.groups
        ),
    )


def made_history() -> AlignmentHistory:
    """Five checkpoints over which strong teacher nodes are learnt first."""
    report = made_report()
    steps = np.arange(5)[:, None]
    groups = tuple(
        GroupHistory(
            group.name,
            group.name,
            group.teacher_strength,
            1 - np.exp(-steps * group.teacher_strength / group.teacher_strength.max()),
            report.thresholds.aligned,
        )
        for group in report.groups
        if group.teacher_group
    )
    names = tuple(f"ckpt-{step}" for step in range(5))
    return AlignmentHistory(names, "correlation", "made_teacher", "invented", groups, (), report)
