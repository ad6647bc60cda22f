"""Observing two models for the metrics, and what every metric then says of every pair of groups."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np

from tsdistill.alignment.matching.coarse_activations import TracedModel
from tsdistill.alignment.metric_runner import MetricRunner, PairStatistics, first_of_nodes
from tsdistill.alignment.metrics.fan_in_weights import fan_ins
from tsdistill.alignment.metrics.metric_protocols import FanIn
from tsdistill.alignment.node_figures import TeacherGroup
from tsdistill.options.analysis_options import METRIC
from tsdistill.runtime.progress import Progress
from tsdistill.statistics.moments import Moments, own_moments
from tsdistill.statistics.observation import Observation, ObservedTeacher, observe
from tsdistill.statistics.prepared_data import PreparedData
from tsdistill.statistics.sensitivity import SiteSensitivity, sensitivity_of
from tsdistill.statistics.sensitivity_passes import SensitivityPasses

Results = dict[str, dict[str, np.ndarray]]


def observe_sides(
    student: TracedModel,
    teacher: TracedModel,
    partners: Mapping[str, str],
    prepared: PreparedData,
    measures: MetricRunner,
    positions: int | str | None,
    seed: int,
    progress: Progress | None,
    *,
    keys: Collection[str] | None = None,
    around: Callable[[int], AbstractContextManager[None]] | None = None,
    passes: SensitivityPasses | None = None,
    teacher_passes: SensitivityPasses | None = None,
) -> Observation:
    """One pass for everything that the metrics want of the pairs, and the covariances of the sites ``keys``.

    The student's forwards run inside what ``around`` gives for the number of the batch; ``passes`` and
    ``teacher_passes`` derive the outputs of the first samples in the same forward passes.

    Without a teacher the model is observed once: its covariances hold the moments; only metrics that want
    batches need pairs of its own groups.
    """
    own = teacher is student
    paired = partners if not own or measures.wants("batches") else {}
    listeners = {}
    for name, other in paired.items():
        sizes = student.graph.by_name[name].size, teacher.graph.by_name[other].size
        listeners[name] = measures.listeners(name, *sizes)
    full = not own and measures.wants("covariances")
    return observe(
        student.model,
        student.sites,
        prepared,
        teacher=ObservedTeacher(teacher.model, teacher.sites, paired, full, listeners, teacher_passes),
        keys=keys,
        positions=positions,
        seed=seed,
        around=around,
        passes=passes,
        progress=progress,
    )


def compare_groups(
    student: TracedModel,
    teacher: TracedModel,
    partners: Mapping[str, str],
    example: Any,
    observed: Observation,
    measures: MetricRunner,
) -> tuple[Results, str]:
    """Ask all metrics.

    Args:
        student: the student.
        teacher: the teacher, or the student itself.
        partners: student group -> teacher group.
        example: one input (batch 1).
        observed: what the pass over the data measured.
        measures: the metrics; those that raise are noted there.

    Returns:
        per student group what every metric says of it: tables ``[S, T]`` and single figures; and the name of
        the metric whose matches come first, the correlation where none of those asked for compares nodes.
    """

    @cache
    def weights() -> tuple[dict[str, FanIn], dict[str, FanIn]]:
        left = fan_ins(student.model, student.graph, example)
        return left, left if teacher is student else fan_ins(teacher.model, teacher.graph, example)

    def ask(asked: MetricRunner, name: str, other: str) -> dict[str, np.ndarray]:
        shape = student.graph.by_name[name].size, teacher.graph.by_name[other].size

        def fans() -> tuple[FanIn | None, FanIn | None]:
            return weights()[0].get(name), weights()[1].get(other)

        return asked.results(PairStatistics(name, _moments(student, teacher, name, observed), fans, shape))

    seen = {name: other for name, other in partners.items() if _seen(student, teacher, name, observed)}
    results = {name: ask(measures, name, other) for name, other in seen.items()}
    for group_results in results.values():
        for failed in measures.failed:
            group_results.pop(failed, None)
    first = first_of_nodes(measures.names, results)
    if first is None:
        first, default = METRIC, MetricRunner(METRIC)
        for name, other in seen.items():
            results[name].update(ask(default, name, other))
    return results, first


def _seen(student: TracedModel, teacher: TracedModel, name: str, observed: Observation) -> bool:
    if teacher is not student:
        return name in observed.pairs
    primary = student.sites.primary(name)
    return primary is not None and primary.site in observed.covariances


def _moments(student: TracedModel, teacher: TracedModel, name: str, observed: Observation) -> Moments:
    if teacher is not student:
        return observed.pairs[name]
    primary = student.sites.primary(name)
    assert primary is not None
    return own_moments(observed.covariances[primary.site], primary.features)


def partner_of(
    teacher: TracedModel, other: str, name: str, observed: Observation, sensitivity: SiteSensitivity
) -> TeacherGroup:
    """The teacher's group ``other`` of the student's group ``name``, with the strength of its nodes.

    The strength is s_k = sqrt(E[β_kk] Var(h_k)), β summed over all readers and the variance that of the
    primary reading, which is the one that is observed.
    """
    readings = teacher.sites.readings[other]
    beta = sensitivity_of(readings, sensitivity.mean, teacher.graph.by_name[other].size)
    variance = observed.pairs[name].var_t().numpy()
    strength = np.sqrt(beta * variance)
    variances = {reading.site: np.zeros(teacher.sites.sites[reading.site].width) for reading in readings}
    for reading in readings:
        variances[reading.site][reading.features] = variance[:, None]
    error = sensitivity.strength_error(readings, variances, strength)
    return TeacherGroup(other, strength, error, observed.compared[name])
