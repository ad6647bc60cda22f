"""What this plugin registers: two alignment metrics, and an augmentation, data source, loss, importance."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from tsdistill.plugin_api import (
    AlignmentReport,
    Group,
    InputSpec,
    Moments,
    PlainLoss,
    Register,
    Step,
    TsdistillError,
    fan_in,
    hookimpl,
    ranks_only,
    rows_of,
)

ORIENTATIONS = 4
_DEFAULT = 64


class ExplainedVariance:
    """Squared correlation: the share of a teacher node's variance that a student node explains."""

    name = "r2"
    wants = "moments"

    def from_moments(self, moments: Moments) -> Tensor:
        """Shares ``[S, T]`` in [0, 1]; 0 where a node does not vary."""
        scale = torch.outer(moments.var_s(), moments.var_t())
        share = moments.cov().square() / torch.where(scale > 0, scale, torch.ones_like(scale))
        return torch.where(scale > 0, share, torch.zeros_like(share)).clamp(0, 1)


class GateOverlap:
    """Share of samples at which both nodes are above 0 among those at which either is; 0 without any."""

    name = "overlap"
    wants = "batches"

    def start(self, students: int, teachers: int) -> OverlapCounts:
        """Counts for groups of so many nodes."""
        return OverlapCounts(students, teachers)


class OverlapCounts:
    """How often each node, and each pair of nodes, is above 0."""

    def __init__(self, students: int, teachers: int) -> None:
        self.student = torch.zeros(students)
        self.teacher = torch.zeros(teachers)
        self.both = torch.zeros(students, teachers)

    def update(self, student: Tensor, teacher: Tensor) -> None:
        """Count ``student [rows, S]`` and ``teacher [rows, T]`` of the same samples."""
        above_s, above_t = ((rows > 0).double().cpu() for rows in (student, teacher))
        self.student = self.student + above_s.sum(0)
        self.teacher = self.teacher + above_t.sum(0)
        self.both = self.both + above_s.T @ above_t

    def merge(self, other: OverlapCounts) -> None:
        """Take in what another process has counted."""
        self.student = self.student + other.student
        self.teacher = self.teacher + other.teacher
        self.both = self.both + other.both

    def finish(self) -> Tensor:
        """Shares ``[S, T]`` in [0, 1]."""
        either = self.student[:, None] + self.teacher - self.both
        return self.both / either.clamp_min(1)


def gain(x: Tensor, generator: torch.Generator) -> Tensor:
    """Multiply each sample of ``x [B, ...]`` by a factor between 0.5 and 1.5."""
    factors = 0.5 + torch.rand(len(x), generator=generator)
    return x * factors.to(x).view(-1, *[1] * (x.dim() - 1))


class OutputCosine(PlainLoss):
    """One less the cosine of the student's and the teacher's outputs, mean over the positions that count."""

    reads = "any"

    def __call__(self, step: Step) -> Tensor:
        """From 0 to 2; at least one class."""
        rows = rows_of(step, teacher=True)
        return rows.mean(1 - functional.cosine_similarity(rows.student, rows.teacher, dim=1))


class Gratings(Dataset[tuple[Tensor, int]]):
    """Sinusoidal gratings of random frequency and phase, labelled by orientation.

    Args:
        count: how many.
        size: shape of one sample, ``(C, H, W)``.
    """

    def __init__(self, count: int, size: tuple[int, ...]) -> None:
        self.count = count
        self.size = size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        channels, height, width = self.size
        label = index % ORIENTATIONS
        angle = math.pi * label / ORIENTATIONS
        frequency, phase = torch.rand(2, generator=torch.Generator().manual_seed(index)).tolist()
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        along = math.cos(angle) * columns + math.sin(angle) * rows
        wave = torch.sin((0.1 + 0.9 * frequency) * along + 2 * math.pi * phase)
        return wave.expand(channels, height, width).clone(), label


@ranks_only
def largest_weight(report: AlignmentReport, group: Group) -> Tensor:
    """The largest weight of each node's fan-in, ``[nodes]``: nodes without any large one leave first."""
    return fan_in(report, group).abs().amax(1)


def gratings(argument: str, spec: InputSpec) -> Gratings:
    """``gratings[:COUNT]``: so many gratings, 64 when nothing is said."""
    if len(spec.size) != 3:
        raise TsdistillError(f"gratings are images; the inputs of this model are {spec.size}")
    if argument and not argument.isdigit():
        raise TsdistillError(f"gratings:{argument}: write how many, such as gratings:64")
    return Gratings(int(argument or _DEFAULT), spec.size)


@hookimpl
def register_alignment_metrics(register: Register) -> None:
    """The metrics ``r2`` and ``overlap``."""
    register("r2", ExplainedVariance())
    register("overlap", GateOverlap())


@hookimpl
def register_augmentations(register: Register) -> None:
    """The augmentation ``gain``."""
    register("gain", gain)


@hookimpl
def register_data_sources(register: Register) -> None:
    """The data source ``gratings``."""
    register("gratings", gratings)


@hookimpl
def register_importance(register: Register) -> None:
    """The importance ``largest-weight``."""
    register("largest-weight", largest_weight)


@hookimpl
def register_losses(register: Register) -> None:
    """The loss ``output-cosine``."""
    register("output-cosine", OutputCosine)
