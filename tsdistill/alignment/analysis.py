"""``analyze``: lay a student beside a teacher, or beside itself, and report on every node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from tsdistill import plugins
from tsdistill.alignment.exact import relations
from tsdistill.alignment.inputs import Prepared, prepare
from tsdistill.alignment.matching import match_groups
from tsdistill.alignment.metrics import MomentMetric
from tsdistill.alignment.nodes import Partner, describe_group
from tsdistill.alignment.observe import Observation, observe
from tsdistill.alignment.report import AlignmentReport, Statistics, Thresholds
from tsdistill.alignment.running import check_finite
from tsdistill.alignment.sites import Sites, find_sites
from tsdistill.alignment.strength import output_sensitivity
from tsdistill.errors import TsdistillError
from tsdistill.models import info_of
from tsdistill.tracing import trace


def analyze(
    student: nn.Module,
    teacher: nn.Module | None = None,
    data: Any = None,
    *,
    samples: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    example_input: Any = None,
    metric: str = "correlation",
    augment: str = "none",
    strength_samples: int = 256,
    positions: int | str | None = "auto",
    thresholds: Thresholds | None = None,
    input_size: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str | None = None,
    transform: Callable[[Any], Any] | None = None,
) -> AlignmentReport:
    """Observe a student (and a teacher) on data and report on every node.

    Args:
        student: any module; it is left as it was.
        teacher: a model that takes the same inputs; without one the student is its own teacher.
        data: what ``tsdistill.data.open_data`` takes; ``None`` for a synthetic source.
        samples: how many samples to look at.
        batch_size: samples a forward pass.
        seed: of everything random.
        example_input: one input (batch 1) when the model does not know how its inputs look.
        metric: alignment metric by name.
        augment: augmentation strategy by name, applied to every batch.
        strength_samples: samples for strength, which needs backward passes.
        positions: positions of a feature map that are looked at in each sample: ``"auto"`` bounds the work
            by the layer's width, ``None`` takes all.
        thresholds: where the words aligned, weak and redundant begin to apply.
        input_size: shape of one sample, in place of what the model says.
        mean: per-channel mean, likewise.
        std: per-channel standard deviation, likewise.
        interpolation: of resizing, likewise.
        transform: replaces resizing, cropping and normalising.

    Raises:
        TsdistillError: weights or activations that are not finite, data or models that do not fit, or nothing
            that could be cut.
    """
    prepared = prepare(
        student,
        data,
        samples=samples,
        batch_size=batch_size,
        seed=seed,
        example_input=example_input,
        augment=augment,
        input_size=input_size,
        mean=mean,
        std=std,
        interpolation=interpolation,
        transform=transform,
    )
    return analyze_prepared(
        student,
        teacher,
        prepared,
        metric=metric,
        thresholds=thresholds,
        strength_samples=strength_samples,
        positions=positions,
        seed=seed,
    )


def analyze_prepared(
    student: nn.Module,
    teacher: nn.Module | None,
    prepared: Prepared,
    *,
    metric: str = "correlation",
    thresholds: Thresholds | None = None,
    strength_samples: int = 256,
    positions: int | str | None = "auto",
    seed: int = 0,
) -> AlignmentReport:
    """``analyze`` on data that have been opened."""
    measure = _metric(metric)
    check_finite(student, "student" if teacher is not None else "model")
    if teacher is not None:
        check_finite(teacher, "teacher")
    graph = trace(student, prepared.example)
    if not graph.groups:
        causes = "; ".join(sorted({item.cause for item in graph.frozen})[:3])
        raise TsdistillError(f"nothing in this model can be cut{': ' + causes if causes else ''}")
    thresholds = thresholds or Thresholds()
    sites = find_sites(student, graph)
    notes = list(prepared.notes)
    pairs: dict[str, str] = {}
    teacher_sites: Sites | None = None
    if teacher is not None:
        teacher_graph = trace(teacher, prepared.example, check=False)
        teacher_sites = find_sites(teacher, teacher_graph)
        pairs, remarks = match_groups(graph, teacher_graph, sites, teacher_sites)
        notes += remarks
    observed = observe(
        student,
        sites,
        prepared,
        teacher=teacher,
        teacher_sites=teacher_sites,
        pairs=pairs,
        positions=positions,
        seed=seed,
    )
    beta = output_sensitivity(student, sites, prepared, samples=strength_samples, seed=seed)
    statistics = Statistics(sites, observed, beta)
    partners: dict[str, Partner] = {}
    if teacher is not None and teacher_sites is not None:
        partners = _partners(teacher, teacher_sites, prepared, pairs, observed, strength_samples, seed)
    found = {key: relations(covariance) for key, covariance in observed.covariances.items()}
    groups = tuple(
        describe_group(
            student,
            graph,
            group,
            statistics,
            measure,
            thresholds,
            partners.get(group.name),
            teacher is None,
            found,
        )
        for group in graph.groups
    )
    notes += _warnings(groups)
    kept = {group.name: group.size - int(group.candidate.sum()) for group in groups}
    return AlignmentReport(
        arch=info_of(student).arch,
        teacher_arch=info_of(teacher).arch if teacher is not None else None,
        has_teacher=teacher is not None,
        data=prepared.description,
        synthetic=prepared.synthetic,
        input=prepared.words,
        samples=observed.samples,
        metric=measure.name,
        thresholds=thresholds,
        params=graph.params(),
        macs=graph.macs(),
        params_saved=graph.params() - graph.params(kept),
        macs_saved=graph.macs() - graph.macs(kept),
        groups=groups,
        notes=tuple(notes),
        graph=graph,
        statistics=statistics,
    )


def _metric(name: str) -> MomentMetric:
    metric = plugins.get("alignment metric", name)
    if getattr(metric, "wants", None) != "moments":
        raise TsdistillError(f"alignment metric {name!r} does not work from moments; use one that does")
    return metric


def _partners(
    teacher: nn.Module,
    sites: Sites,
    prepared: Prepared,
    pairs: Mapping[str, str],
    observed: Observation,
    samples: int,
    seed: int,
) -> dict[str, Partner]:
    """Names and strengths of the teacher's groups, the latter from their primary readings."""
    beta = output_sensitivity(teacher, sites, prepared, samples=samples, seed=seed)
    partners = {}
    for name, other in pairs.items():
        primary = sites.primary(other)
        if primary is None or name not in observed.pairs:
            continue
        sensitivity = np.zeros(primary.features.shape[0])
        for reading in sites.readings[other]:
            sensitivity += beta[reading.site][reading.features].sum(1)
        variance: Tensor = observed.pairs[name].var_t()
        partners[name] = Partner(other, np.sqrt(sensitivity * variance.numpy()))
    return partners


def _warnings(groups: Sequence[Any]) -> list[str]:
    notes = []
    unseen = [group.name for group in groups if not group.observed]
    if unseen:
        notes.append(
            f"no layer that reads these groups can be observed, they stay whole: {', '.join(unseen)}"
        )
    few = [group.name for group in groups if group.observed and group.samples <= 2 * group.size]
    if few:
        notes.append(
            f"too few samples to tell what several nodes together explain in {', '.join(few)}; "
            "give more (samples=)"
        )
    return notes
