"""Student and teacher during training: both traced, their groups paired and measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.alignment.matching.coarse_activations import TracedModel
from tsdistill.alignment.matching.group_matching import common_inputs, match_groups
from tsdistill.alignment.metrics.correlation import Correlation
from tsdistill.distillation.losses.features import Features
from tsdistill.distillation.losses.loss_protocol import Batches, Step, input_of
from tsdistill.errors import TsdistillError
from tsdistill.options.option_fields import written
from tsdistill.runtime.forward import forward, head
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import count
from tsdistill.statistics import distributed
from tsdistill.statistics.common_grid import CommonGrid, common_grid, nodes
from tsdistill.statistics.moments import Moments
from tsdistill.statistics.observation import ObservedTeacher, observe
from tsdistill.statistics.sample_blocks import channels_first, widen
from tsdistill.statistics.sensitivity import sensitivity_of
from tsdistill.statistics.sensitivity_passes import SensitivityPasses
from tsdistill.statistics.sites import GroupSite, ReaderInput, find_sites
from tsdistill.tracing import trace


class Samples(Sequence[tuple[Any, Any]]):
    """Batches with their number of samples, by which the number of positions is chosen.

    Args:
        batches: the batches.
        limit: samples after which to stop; all without it. A batch that is cut loses its labels.
    """

    def __init__(self, batches: Batches, limit: int | None = None) -> None:
        self._batches: list[tuple[Any, Any]] = []
        self.samples = 0
        for x, y in batches:
            left = count(x) if limit is None else min(count(x), limit - self.samples)
            if left > 0:
                self._batches.append((x, y) if left == count(x) else (head(x, left), None))
                self.samples += left

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: Any) -> Any:
        return self._batches[index]

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return iter(self._batches)


@dataclass(frozen=True, eq=False)
class GroupPair:
    """A student group and its teacher group, and how their activations become nodes at common positions.

    Attributes:
        name: the student's group.
        teacher_group: the teacher's.
        student_reading: where and how the student's group is read.
        teacher_reading: the same for the teacher's group.
        site: the layer that reads the student's group.
        teacher_site: the layer that reads the teacher's group.
        meeting: the common positions of both.
    """

    name: str
    teacher_group: str
    student_reading: GroupSite
    teacher_reading: GroupSite
    site: ReaderInput
    teacher_site: ReaderInput
    meeting: CommonGrid

    @property
    def student_tap(self) -> str:
        """Where the student's nodes are seen."""
        return input_of(self.site.module)

    @property
    def teacher_tap(self) -> str:
        """Where the teacher's nodes are seen."""
        return input_of(self.teacher_site.module)

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of nodes S and T."""
        return len(self.student_reading.reader.coords), len(self.teacher_reading.reader.coords)

    @property
    def mapped(self) -> bool:
        """Whether positions of a map remain that single channels have values at."""
        return bool(self.meeting.size) and self.student_reading.reader.coords.shape[1] == 1

    def blocks(self, step: Step) -> tuple[Tensor, Tensor]:
        """The nodes of one batch, ``[N, S, P]`` with gradient and ``[N, T, P]``, float32 at least."""
        samples = len(step.student_output)
        student_block = self._block(
            step.student_features[self.student_tap], self.site, self.student_reading, samples
        )
        teacher_block = self._block(
            step.teacher_features[self.teacher_tap], self.teacher_site, self.teacher_reading, samples
        )
        return student_block, teacher_block.detach()

    def _block(self, x: Tensor, site: ReaderInput, reading: GroupSite, samples: int) -> Tensor:
        average = self.student_reading.reader.coords.shape[1] != self.teacher_reading.reader.coords.shape[1]
        block = self.meeting.resample(channels_first(x, site.channel_dim), samples)
        return widen(nodes(block, reading.reader.coords, average=average))


class PairedGroups:
    """Student and teacher, traced, their groups paired (`tsdistill.alignment.matching.group_matching`).

    In a job of several processes all of them make one and ask it, with the same batches.

    Args:
        student: the bare student; left as it was.
        teacher: the bare teacher, likewise.
        batches: a few batches; the first samples pair groups where names do not.
        pairs: student group -> teacher group, which overrides what is found.

    Attributes:
        student: the student's side.
        teacher: the teacher's.
        pairs: student group -> teacher group.
        notes: lines for the user.

    Raises:
        TsdistillError: no batches, models that do not take the same inputs, or groups that cannot be paired.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        batches: Batches,
        pairs: Mapping[str, str] | None = None,
    ) -> None:
        if not batches:
            raise TsdistillError("there are no samples to look at the student and the teacher with")
        self.example = head(batches[0][0], 1)
        with common_inputs(student, teacher):
            self.student, self.teacher = (self._side(model) for model in (student, teacher))
        matching = distributed.from_first_process(
            match_groups(self.student, self.teacher, batches, fixed=pairs)
        )
        self.pairs = dict(matching.pairs)
        self.notes = matching.notes

    def _side(self, model: nn.Module) -> TracedModel:
        with evaluation_mode(model):
            graph = trace(model, self.example, check=False)
        return TracedModel(model, graph, find_sites(model, graph))

    def moments(
        self, batches: Batches, seed: int = 0, positions: int | str | None = "auto"
    ) -> dict[str, Moments]:
        """Means, variances and covariances of every pair of groups, by student group.

        Args:
            batches: the samples.
            seed: of the positions.
            positions: how many positions of a map are read in each sample; ``None`` for all.
        """
        observation = observe(
            self.student.model,
            self.student.sites,
            batches if isinstance(batches, Samples) else Samples(batches),
            teacher=ObservedTeacher(self.teacher.model, self.teacher.sites, self.pairs),
            keys=(),
            positions=positions,
            seed=seed,
        )
        return dict(observation.pairs)

    def sensitivity(self, batches: Batches, samples: int, seed: int = 0) -> dict[str, np.ndarray]:
        """E[β_kk] of the teacher's nodes, float64 ``[T]``, by student group.

        Args:
            batches: the samples.
            samples: how many of them are used.
            seed: of the random projections of the output.
        """
        teacher = self.teacher
        passes = SensitivityPasses(teacher.model, teacher.sites, batches, samples=samples, seed=seed)
        sensitivity, _ = passes.finish()
        sizes = {group.name: group.size for group in teacher.graph.groups}
        return {
            name: sensitivity_of(teacher.sites.readings[other], sensitivity.mean, sizes[other])
            for name, other in self.pairs.items()
        }

    @cached_property
    def shared_pairs(self) -> tuple[GroupPair, ...]:
        """Every pair of groups that both models pass when they run, with the positions where they meet."""
        students = self._passed(self.student, self.pairs, "student")
        teachers = self._passed(self.teacher, self.pairs.values(), "teacher")
        pairs = []
        for name, other in self.pairs.items():
            if name in students and other in teachers:
                reading, site, a = students[name]
                teacher_reading, teacher_site, b = teachers[other]
                meeting = common_grid(a[1:], b[1:], windows=a[0] != b[0])
                pairs.append(GroupPair(name, other, reading, teacher_reading, site, teacher_site, meeting))
        if not pairs:
            raise TsdistillError(
                "the forward passes show no pair of groups of student and teacher; give other models, or a "
                f"loss of outputs only ({written('loss', 'soft-targets')})"
            )
        return tuple(pairs)

    def _passed(
        self, side: TracedModel, groups: Iterable[str], role: str
    ) -> dict[str, tuple[GroupSite, ReaderInput, tuple[int, ...]]]:
        """By group its reading, the layer that reads it, and the rows of one sample and position dimensions
        there; groups whose reader does not run are left out."""
        readings = {name: reading for name in groups if (reading := side.sites.primary(name)) is not None}
        sites = {name: side.sites.sites[reading.site] for name, reading in readings.items()}
        features = Features(side.model, [input_of(site.module) for site in sites.values()], role)
        with evaluation_mode(side.model), torch.no_grad(), features:
            forward(side.model, self.example, role)
        passed = {}
        for name, site in sites.items():
            x = features.passed.get(input_of(site.module))
            if x is not None:
                channels = channels_first(x, site.channel_dim)
                passed[name] = readings[name], site, (channels.shape[0], *channels.shape[2:])
        return passed


def similarities(moments: Mapping[str, Moments]) -> dict[str, np.ndarray]:
    """Correlations ``[S, T]`` of every pair of groups."""
    measure = Correlation()
    return {name: measure.from_moments(each).numpy() for name, each in moments.items()}


def strengths(moments: Mapping[str, Moments], sensitivity: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """s_j = sqrt(E[β_jj] Var(h_j)) of the teacher's nodes, float64 ``[T]``, by student group."""
    return {name: np.sqrt(sensitivity[name] * each.var_t().numpy()) for name, each in moments.items()}
