"""``analyze_training``: the checkpoints of a training compared with one teacher, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from tsdistill.alignment.analysis import OLD_KEYWORDS, analyze_prepared
from tsdistill.alignment.history import AlignmentHistory, GroupHistory
from tsdistill.alignment.matching.coarse_activations import TracedModel
from tsdistill.alignment.metric_moments import compare_groups, observe_sides
from tsdistill.alignment.metric_runner import MetricRunner
from tsdistill.alignment.report import AlignmentReport
from tsdistill.errors import TsdistillError
from tsdistill.models import info_of, load
from tsdistill.models.files.stored_weights import check_finite
from tsdistill.options.analysis_options import AnalysisOptions
from tsdistill.options.data_options import DataOptions
from tsdistill.options.old_names import grouped
from tsdistill.runtime.progress import Progress, expect
from tsdistill.runtime.unchanged import unchanged
from tsdistill.statistics.analysis_stages import OBSERVE, analysis_stages
from tsdistill.statistics.prepared_data import PreparedData, inputs_for, prepare
from tsdistill.statistics.sites import find_sites
from tsdistill.tracing import trace

__all__ = ["AlignmentHistory", "GroupHistory", "analyze_training"]

Checkpoint = nn.Module | str | Path

_NAMED = 12
"""Names of checkpoints that a message lists; more are counted, so that the line stays short."""


@grouped(moved=OLD_KEYWORDS, analysis=AnalysisOptions, inputs=DataOptions)
@unchanged
def analyze_training(
    checkpoints: Sequence[Checkpoint],
    teacher: Checkpoint | None = None,
    data: Any = None,
    *,
    arch: str | None = None,
    teacher_arch: str | None = None,
    trust: bool = False,
    device: str | torch.device = "cpu",
    analysis: AnalysisOptions | Mapping[str, Any] = AnalysisOptions(),
    inputs: DataOptions | Mapping[str, Any] = DataOptions(),
    seed: int = 0,
    progress: Progress | None = None,
) -> AlignmentHistory:
    """Compare every checkpoint of a training with the same teacher, on the same samples.

    The last checkpoint is analysed in full; groups are matched there, and these pairs are kept for all. Of
    the others nothing is measured but the first metric that compares nodes. Checkpoints that are files are
    loaded one at a time.

    Args:
        checkpoints: in the order of the training; what ``tsdistill.load`` takes, or modules.
        teacher: likewise; the last checkpoint without it.
        data: what ``tsdistill.data.open_data`` takes; ``None`` for a synthetic source.
        arch: architecture of files with bare weights; without it that of the last is recognised and tried for
            the others.
        teacher_arch: that of the teacher's file.
        trust: unpickle whole objects, and import the code that a file names.
        device: where models that are loaded go.
        analysis: how nodes are compared, as ``analyze`` takes it; statistics for pruning are not kept.
        inputs: how samples are read and how inputs look, in place of what the models say.
        seed: of everything random.
        progress: is called with the checkpoint and the phase, the samples done and how many there are.

    Raises:
        TsdistillError: no checkpoints, one that cannot be loaded or has other groups than the last, or
            whatever ``analyze`` refuses.
    """
    if not checkpoints:
        raise TsdistillError("no checkpoint was given; give the models of a training in their order")
    analysis, inputs = replace(AnalysisOptions.of(analysis), for_pruning=False), DataOptions.of(inputs)
    look = replace(inputs.look, example_input=None, transform=None)
    how = {"trust": trust, "device": device, "inputs": look}
    names = _names(checkpoints)
    tell = _SeriesProgress(progress, len(names))

    tell.begin(names[-1], len(names))
    last = _load(checkpoints[-1], arch, how)
    known = arch or info_of(last).arch
    teacher_model = last if teacher is None else _load(teacher, teacher_arch, how)
    if not isinstance(checkpoints[-1], nn.Module):
        inputs = replace(inputs, input_size=None, mean=None, std=None, interpolation=None)  # loaded so
    prepared = prepare(last, data, inputs, teacher=teacher_model, seed=seed)
    tell.expect_others(names[:-1], prepared.samples)
    report = analyze_prepared(last, teacher_model, prepared, analysis, seed=seed, progress=tell.progress)
    comparison = _TeacherComparison(report, last, teacher_model, prepared, analysis.positions, seed)
    notes = [*info_of(last).notes, *_notes(names, teacher is None)]
    del last, teacher_model

    rows = []
    for place, (name, checkpoint) in enumerate(zip(names[:-1], checkpoints, strict=False), start=1):
        tell.begin(name, place)
        model = _load(checkpoint, known, how, otherwise=arch)
        check_finite(model, name)
        try:
            rows.append(comparison.best(model, tell.progress))
        except TsdistillError as error:
            raise TsdistillError(f"{name}: {error}") from error
        del model
    return AlignmentHistory(
        names=names,
        metric=report.metric,
        teacher_arch=report.teacher_arch,
        data=report.data,
        groups=comparison.histories(rows),
        notes=tuple(dict.fromkeys(notes)),
        final=report,
    )


class _TeacherComparison:
    """What every checkpoint is compared with: the teacher, the pairs of groups, the samples.

    Args:
        report: of the last checkpoint.
        last: that checkpoint; nothing but the shapes of its parameters is kept.
        teacher: the teacher.
        prepared: the data.
        positions: positions of a feature map that are looked at in each sample.
        seed: of these.
    """

    def __init__(
        self,
        report: AlignmentReport,
        last: nn.Module,
        teacher: nn.Module,
        prepared: PreparedData,
        positions: int | str | None,
        seed: int,
    ) -> None:
        self._report, self._prepared = report, prepared
        self._positions, self._seed = positions, seed
        self._signature = _signature(last)
        if teacher is last:
            graph, sites = report.graph, report.statistics.sites
        else:
            graph = trace(teacher, prepared.example, check=False, others=inputs_for(teacher, prepared))
            sites = find_sites(teacher, graph)
        self._teacher = TracedModel(teacher, graph, sites)
        self.pairs = {
            group.name: group.teacher_group
            for group in report.groups
            if group.teacher_group is not None and report.metric in group.matches
        }

    def best(self, model: nn.Module, progress: Progress | None) -> dict[str, np.ndarray]:
        """Per group the best similarity ``[T]`` of each teacher node with any node of ``model``."""
        student = self._side(model)
        measures = MetricRunner(self._report.metric)
        observed = observe_sides(
            student,
            self._teacher,
            self.pairs,
            self._prepared,
            measures,
            self._positions,
            self._seed,
            progress,
            keys=(),
        )
        results, _ = compare_groups(
            student, self._teacher, self.pairs, self._prepared.example, observed, measures
        )
        for metric, message in measures.failed.items():
            raise TsdistillError(f"the metric {metric} fails: {message}; give another one first")
        return {group: self._best_of(results.get(group, {}), group) for group in self.pairs}

    def _best_of(self, tables: Mapping[str, np.ndarray], group: str) -> np.ndarray:
        table = tables.get(self._report.metric)
        if table is None:
            return np.zeros(self._report.by_name[group].teacher_size)
        return cast(np.ndarray, np.nan_to_num(table).max(0))

    def _side(self, model: nn.Module) -> TracedModel:
        """The checkpoint's groups: those of the last one, traced anew only where the shapes are others."""
        if _signature(model) == self._signature:
            return TracedModel(model, self._report.graph, self._report.statistics.sites)
        graph = trace(model, self._prepared.example, check=False, others=inputs_for(model, self._prepared))
        missing = [group for group in self.pairs if group not in graph.by_name]
        if missing:
            raise TsdistillError(
                f"it has no group {missing[0]}, which the last checkpoint has; give checkpoints of one "
                "training"
            )
        return TracedModel(model, graph, find_sites(model, graph))

    def histories(self, rows: Sequence[Mapping[str, np.ndarray]]) -> tuple[GroupHistory, ...]:
        """One entry per pair; ``rows`` are the earlier checkpoints'."""
        histories = []
        for name, other in self.pairs.items():
            group = self._report.by_name[name]
            best = np.stack([*(row[name] for row in rows), group.teacher_best])
            threshold = self._report.thresholds.aligned
            histories.append(GroupHistory(name, other, group.teacher_strength, best, threshold))
        return tuple(histories)


class _SeriesProgress:
    """Hands progress on with the checkpoint's name before the phase."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._given, self._total = progress, total
        self._prefix = ""
        self.progress = self if progress is not None else None

    def begin(self, name: str, place: int) -> None:
        """A checkpoint begins to be loaded."""
        self._prefix = _place(name, place, self._total)
        self("reading", 0, None)

    def expect(self, stages: Mapping[str, float]) -> None:
        """Stages of this checkpoint will come."""
        expect(self._given, {self._prefix + name: cost for name, cost in stages.items()})

    def expect_others(self, names: Sequence[str], samples: int | None) -> None:
        """All checkpoints ``names`` will be compared with the teacher."""
        if samples is not None:
            passes = analysis_stages(samples, teacher=True)[OBSERVE]
            stages = [_place(name, place, self._total) + OBSERVE for place, name in enumerate(names, 1)]
            expect(self._given, dict.fromkeys(stages, passes))

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        if self._given is not None:
            self._given(self._prefix + phase, done, total)


def _place(name: str, place: int, total: int) -> str:
    """What the stages of a checkpoint begin with."""
    return f"{name} ({place} of {total}): "


def _load(
    checkpoint: Checkpoint, arch: str | None, how: Mapping[str, Any], otherwise: str | None = None
) -> nn.Module:
    """A model; where it is no ``arch`` it is loaded as if only ``otherwise`` were known."""
    if isinstance(checkpoint, nn.Module):
        return checkpoint
    if arch == otherwise:
        return load(checkpoint, arch=arch, **how)
    try:
        return load(checkpoint, arch=arch, **how)
    except TsdistillError:
        return load(checkpoint, arch=otherwise, **how)


def _signature(model: nn.Module) -> dict[str, Any]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _names(checkpoints: Sequence[Checkpoint]) -> tuple[str, ...]:
    """File names where they tell checkpoints apart, else whole paths; modules are numbered."""
    whole = [
        f"checkpoint {place}" if isinstance(each, nn.Module) else str(each)
        for place, each in enumerate(checkpoints, start=1)
    ]
    short = [Path(name).name if Path(name).is_file() else name for name in whole]
    return tuple(short if len(set(short)) == len(short) else whole)


def _notes(names: Sequence[str], own: bool) -> list[str]:
    if len(names) <= _NAMED:
        listed = ", ".join(names)
    else:
        listed = f"{', '.join(names[:3])}, …, {', '.join(names[-2:])}"
    notes = [f"{len(names)} checkpoints in this order: {listed}"]
    if own:
        notes.append(f"no teacher was given; the last checkpoint, {names[-1]}, is the teacher of all")
    return notes
