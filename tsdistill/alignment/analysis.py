"""``analyze``: compare a student with a teacher, or with itself, and report on every node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from tsdistill.alignment.matching.coarse_activations import TracedModel
from tsdistill.alignment.matching.group_matching import common_inputs, match_groups
from tsdistill.alignment.metric_moments import compare_groups, observe_sides, partner_of
from tsdistill.alignment.metric_runner import MetricRunner
from tsdistill.alignment.node_figures import DescriptionContext, describe_group
from tsdistill.alignment.report import AlignmentReport, GroupReport, Statistics
from tsdistill.alignment.thresholds import Thresholds
from tsdistill.errors import TsdistillError
from tsdistill.models import info_of
from tsdistill.models.files.stored_weights import check_finite
from tsdistill.options.analysis_options import AnalysisOptions
from tsdistill.options.data_options import DataOptions
from tsdistill.options.old_names import Move, grouped
from tsdistill.options.option_fields import written
from tsdistill.runtime.call_layers import observing_calls
from tsdistill.runtime.finite import checked_forward
from tsdistill.runtime.hooks import Clock
from tsdistill.runtime.latency import measure_pass
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.progress import Progress, expect, tell
from tsdistill.runtime.unchanged import unchanged
from tsdistill.statistics import distributed
from tsdistill.statistics.analysis_stages import (
    CHECK,
    DESCRIBE,
    MATCH,
    STRENGTH_OF_TEACHER,
    TRACE,
    analysis_stages,
)
from tsdistill.statistics.fan_out import FanOutCollector
from tsdistill.statistics.observation import Observation
from tsdistill.statistics.outer_products import OuterProducts, QueryReaders, fitting_queries
from tsdistill.statistics.prepared_data import PreparedData, inputs_for, prepare
from tsdistill.statistics.redundancy import compensations, rectified, relations, spanned_by_norms
from tsdistill.statistics.sensitivity import SiteSensitivity, strength_and_error
from tsdistill.statistics.sensitivity_passes import SensitivityPasses, StrengthEstimate, largest_error
from tsdistill.statistics.sites import ModelSites, find_sites
from tsdistill.tracing import trace, trace_branches
from tsdistill.tracing.graph import NodeGraph


class _MovedThresholds(Move):
    """Puts ``thresholds=``, an old keyword of `analyze`, into ``analysis``."""

    def written(self, value: Thresholds | None) -> str:  # noqa: ARG002
        return "'aligned': ..., 'weak': ..., 'redundant': ..."

    def __call__(self, arguments: dict[str, Any], value: Thresholds | None) -> None:
        if value is not None:
            for name in ("aligned", "weak", "redundant"):
                Move("analysis", name)(arguments, getattr(value, name))


OLD_KEYWORDS = {
    "choosing": Move("analysis", "for_pruning"),
    "thresholds": _MovedThresholds("analysis", "thresholds"),
}


@grouped(moved=OLD_KEYWORDS, analysis=AnalysisOptions, inputs=DataOptions)
@unchanged
def analyze(
    student: nn.Module,
    teacher: nn.Module | None = None,
    data: Any = None,
    *,
    analysis: AnalysisOptions | Mapping[str, Any] = AnalysisOptions(),
    inputs: DataOptions | Mapping[str, Any] = DataOptions(),
    seed: int = 0,
    progress: Progress | None = None,
) -> AlignmentReport:
    """Observe a student (and a teacher) on data and report on every node.

    In a job of several processes (``torch.distributed`` is initialised) call it in all of them, with the same
    arguments: each takes its share of the batches, and all return the same report.

    Args:
        student: any module; it is left as it was.
        teacher: a model that takes the same inputs; without one the student is its own teacher.
        data: what ``tsdistill.data.open_data`` takes; ``None`` for a synthetic source.
        analysis: how nodes are compared and when which word applies to them (`AnalysisOptions`, or some of
            them by name): ``analysis={"metric": "cka"}``.
        inputs: how samples are read and how inputs look (`DataOptions`, or some of them by name):
            ``inputs={"samples": 512}``.
        seed: of everything random.
        progress: is called with the stage, the samples done and how many there are
            (`tsdistill.runtime.progress`).

    Raises:
        TsdistillError: weights or activations that are not finite, data or models that do not fit, metrics or
            groups that do not exist, or nothing that could be cut.
    """
    prepared = prepare(student, data, DataOptions.of(inputs), teacher=teacher, seed=seed)
    chosen = AnalysisOptions.of(analysis)
    report = analyze_prepared(student, teacher, prepared, chosen, seed=seed, progress=progress)
    return replace(report, branches=trace_branches(student, prepared.example, graph=report.graph))


@observing_calls
def analyze_prepared(
    student: nn.Module,
    teacher: nn.Module | None,
    prepared: PreparedData,
    analysis: AnalysisOptions = AnalysisOptions(),
    *,
    seed: int = 0,
    progress: Progress | None = None,
    graph: NodeGraph | None = None,
    like: NodeGraph | None = None,
    queries: Mapping[str, QueryReaders] | None = None,
) -> AlignmentReport:
    """``analyze`` on data that have been opened.

    ``graph`` is the student's, where it has been traced, and ``like`` the one at another width; ``queries``
    says where the nodes of a group are multiplied with one another.
    """
    measures = MetricRunner(analysis.metric)
    pairs, for_pruning = analysis.pairs, analysis.for_pruning
    if pairs and teacher is None:
        raise TsdistillError(f"pairs of groups need a teacher; give {written('teacher')}")
    clock = Clock()
    expect(
        progress,
        analysis_stages(
            prepared.samples, analysis.strength_samples, teacher=teacher is not None, choosing=for_pruning
        ),
    )
    with clock.phase("tracing"):
        student_side, teacher_side = trace_both(student, teacher, prepared, graph, like, progress)
    reference_side = teacher_side or student_side
    matching = None
    if teacher_side is not None:
        tell(progress, MATCH)
        with clock.phase("matching"):
            matching = distributed.from_first_process(
                match_groups(student_side, teacher_side, prepared, fixed=pairs)
            )
    partners = dict(matching.pairs) if matching else {name: name for name in student_side.observable}
    looking = FanOutCollector(student, student_side.sites, seed, prepared.samples) if for_pruning else None
    queries = fitting_queries(student_side.graph, queries or {})
    multiplied = OuterProducts(student, student_side.graph, queries)
    how: dict[str, Any] = {
        "samples": analysis.strength_samples,
        "seed": seed,
        "target": analysis.strength_target,
        "progress": progress,
    }
    passes = SensitivityPasses(
        student,
        student_side.sites,
        prepared,
        collectors=(multiplied, *((looking,) if looking is not None else ())),
        **how,
    )
    teacher_passes = None
    if teacher_side is not None:
        teacher_passes = SensitivityPasses(
            teacher_side.model, teacher_side.sites, prepared, stage=STRENGTH_OF_TEACHER, **how
        )
    observed = observe_sides(
        student_side,
        reference_side,
        partners,
        prepared,
        measures,
        analysis.positions,
        seed,
        progress,
        around=looking.batch if looking is not None else None,
        passes=passes,
        teacher_passes=teacher_passes,
    )
    with clock.phase("strength"):
        beta, estimate = passes.finish(
            lambda sensitivity: _largest_error(student_side, observed, sensitivity, multiplied)
        )
        products = multiplied.finish()
        read = looking.finish(observed.covariances) if looking is not None else {}
        other_beta, other_estimate = None, None
        if teacher_side is not None and teacher_passes is not None:
            other_beta, other_estimate = teacher_passes.finish(
                lambda sensitivity: _partners_error(teacher_side, partners, observed, sensitivity)
            )
    tell(progress, DESCRIBE)
    with clock.phase("description"):
        results, first = compare_groups(
            student_side, reference_side, partners, prepared.example, observed, measures
        )
        taking = compensations(student, student_side.sites, observed.covariances, prepared.example)
        context = DescriptionContext(
            model=student,
            graph=student_side.graph,
            statistics=Statistics(
                student_side.sites,
                observed,
                beta.mean,
                taking,
                read,
                queries,
                {name: products.mean(blocks) for name, blocks in products.means.items()},
                output_power=beta.power,
                model=student if for_pruning else None,
                data=prepared if for_pruning else None,
            ),
            sensitivity=beta,
            products=products,
            relations={key: relations(covariance) for key, covariance in observed.covariances.items()},
            spans=spanned_by_norms(student_side.graph),
            gated=rectified(student_side.graph),
            thresholds=Thresholds(analysis.aligned, analysis.weak, analysis.redundant),
            metric=first,
            own=teacher_side is None,
        )
        groups = []
        for group in student_side.graph.groups:
            partner = None
            if teacher_side is not None and other_beta is not None and group.name in observed.pairs:
                partner = partner_of(teacher_side, partners[group.name], group.name, observed, other_beta)
            groups.append(describe_group(context, group, partner, results.get(group.name, {})))
    notes = [
        *prepared.notes,
        *student_side.graph.notes,
        *(matching.notes if matching else ()),
        *_warnings(prepared, student_side.sites, observed, groups),
        *_doubts(estimate, other_estimate),
    ]
    compared = {name for tables in results.values() for name in tables}
    notes += [
        f"the metric {name} has no result for any of these groups"
        for name in measures.names
        if name not in compared and name not in measures.failed
    ]
    kept = {group.name: group.size - int(group.candidate.sum()) for group in groups}
    graph = student_side.graph
    return AlignmentReport(
        name=info_of(student).name,
        teacher_name=info_of(teacher).name if teacher is not None else None,
        arch=info_of(student).arch,
        teacher_arch=info_of(teacher).arch if teacher is not None else None,
        has_teacher=teacher is not None,
        data=prepared.description,
        synthetic=prepared.synthetic,
        input=prepared.words,
        samples=observed.samples,
        metric=first,
        metrics=measures.names,
        failed=dict(measures.failed),
        seconds={**clock.seconds, **observed.seconds},
        thresholds=context.thresholds,
        params=graph.params(),
        macs=graph.macs(),
        params_saved=graph.params() - graph.params(kept),
        macs_saved=graph.macs() - graph.macs(kept),
        groups=tuple(groups),
        notes=tuple(notes),
        strength_estimate=estimate,
        teacher_strength_estimate=other_estimate,
        matching=matching,
        graph=graph,
        statistics=context.statistics,
    )


def trace_both(
    student: nn.Module,
    teacher: nn.Module | None,
    prepared: PreparedData,
    graph: NodeGraph | None = None,
    like: NodeGraph | None = None,
    progress: Progress | None = None,
) -> tuple[TracedModel, TracedModel | None]:
    """Trace the models; ``graph`` is the student's where that has been done, ``like`` that at another width.

    Raises:
        TsdistillError: weights that are not finite, inputs that the teacher does not take, or nothing that
            could be cut.
    """
    if graph is None:
        tell(progress, CHECK)
    check_finite(student, "the student" if teacher is not None else "the model")
    run_example(student, prepared.example, "student" if teacher is not None else "model")
    if graph is None and like is None:
        measure_pass(progress, student, prepared.example)
    tell(progress, TRACE)
    if graph is None:
        graph = trace(student, prepared.example, like=like, others=inputs_for(student, prepared))
    if not graph.groups:
        causes = "; ".join(sorted({item.cause for item in graph.frozen})[:3])
        raise TsdistillError(f"nothing in this model can be cut{': ' + causes if causes else ''}")
    student_side = TracedModel(student, graph, find_sites(student, graph))
    if teacher is None:
        return student_side, None
    check_finite(teacher, "the teacher")
    with common_inputs(student, teacher):
        run_example(teacher, prepared.example, "teacher")
        other = trace(teacher, prepared.example, check=False, others=inputs_for(teacher, prepared))
    return student_side, TracedModel(teacher, other, find_sites(teacher, other))


def run_example(model: nn.Module, example: Any, role: str) -> None:
    """Refuse a model that fails on the example, or gives NaN there."""
    with evaluation_mode(model), torch.no_grad():
        checked_forward(model, example, role, "on the example input")


def _largest_error(
    student: TracedModel, observed: Observation, sensitivity: SiteSensitivity, multiplied: OuterProducts
) -> float:
    """The largest standard error of the student's strengths (see `strength_passes.Judge`)."""
    products = multiplied.finish()
    return largest_error(
        strength_and_error(
            student.sites.readings.get(group.name, ()),
            observed.covariances,
            sensitivity,
            group.size,
            products,
            group.name,
        )
        for group in student.graph.groups
    )


def _partners_error(
    teacher: TracedModel, partners: Mapping[str, str], observed: Observation, sensitivity: SiteSensitivity
) -> float:
    """The same of the teacher's nodes that are paired with the student's."""
    partner_figures = (
        partner_of(teacher, partners[name], name, observed, sensitivity) for name in observed.pairs
    )
    return largest_error((each.strength, each.strength_error) for each in partner_figures)


def _doubts(*estimates: StrengthEstimate | None) -> list[str]:
    """A note where strength is not as sure as it was asked to be."""
    return [
        f"strength has a standard error of up to {100 * each.error:.2g} % of a group's largest after "
        f"{each.derivatives:,} derivatives, not the {100 * each.target:.2g} % asked for: samples differ "
        "much; give more samples"
        for each in estimates
        if each is not None and each.target is not None and each.error > each.target
    ]


def _warnings(
    prepared: PreparedData, sites: ModelSites, observed: Observation, groups: Sequence[GroupReport]
) -> list[str]:
    notes = list(prepared.stream.notes)
    if prepared.samples is not None and observed.samples + len(prepared.stream.unread) < prepared.samples:
        notes.append(
            f"the data ended after {observed.samples} of {prepared.samples} samples; "
            "what follows is from those"
        )
    unseen = [group.name for group in groups if not group.observed]
    if unseen:
        notes.append(
            f"no layer that reads these groups can be observed, they are not pruned: {', '.join(unseen)}"
        )
    short = {
        reading.group
        for readings in sites.readings.values()
        for reading in readings
        if (seen := observed.covariances.get(reading.site)) and seen.rows <= np.count_nonzero(seen.var)
    }
    few = [
        group.name
        for group in groups
        if group.observed and (group.samples <= 2 * group.size or group.name in short)
    ]
    if few:
        notes.append(
            f"too few samples to tell what several nodes together explain in {', '.join(few)}: predictions "
            f"are held back there (strongly regularised); give more ({written('samples')})"
        )
    return notes
