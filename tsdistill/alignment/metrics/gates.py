"""Likeness of boundaries: whether two nodes are on and off together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tsdistill.alignment.metrics.correlation import ratios
from tsdistill.statistics.centred_sums import accumulator_device

_CHUNK = 2**15
"""Rows whose gates are counted at once: 32,768 rows of 512 nodes are 64 MiB in float32."""


class GateAgreement:
    """Phi coefficient of the gates: the correlation of "node above 0" as its readers see it.

    1 where both are on at the same samples: every sample lies on the same side of both boundaries, so it
    measures how far the boundaries overlap (arXiv 1909.13458 aligns nodes by their boundaries). A node is
    above 0 exactly where its pre-activation is, for ReLU and for every activation with the sign of its
    argument (GELU, SiLU, Mish, Hardswish, ELU, leaky ReLU, tanh): the dip of SiLU and GELU lies wholly at
    negative pre-activations. It is not so where something shifts or averages between the activation and the
    readers (a norm, pooling).

    0 where a gate never changes. Unlike a correlation of activations it asks only about sides, not about
    sizes.
    """

    name = "gates"
    wants = "batches"

    def start(self, students: int, teachers: int) -> GateCounts:
        """Counts for groups of so many nodes, all zero."""
        return GateCounts(students, teachers)


class GateCounts:
    """How often each gate, and each pair of gates, is on: integers in float64, exact up to 2^53 rows.

    They are counted by float32 products of zeros and ones, chunks of rows small enough to be exact.

    Args:
        students: number of student nodes S.
        teachers: number of teacher nodes T.
    """

    def __init__(self, students: int, teachers: int) -> None:
        self.rows = 0
        self.on_s = torch.zeros(students, dtype=torch.float64)
        self.on_t = torch.zeros(teachers, dtype=torch.float64)
        self.both = torch.zeros(students, teachers, dtype=torch.float64)

    def update(self, student: Tensor, teacher: Tensor) -> None:
        """Count ``student [rows, S]`` and ``teacher [rows, T]`` of the same samples."""
        device = accumulator_device(student.device)
        self.on_s, self.on_t, self.both = (part.to(device) for part in (self.on_s, self.on_t, self.both))
        for start in range(0, len(student), _CHUNK):
            gates_s = _gates(student[start : start + _CHUNK])
            gates_t = _gates(teacher[start : start + _CHUNK].to(student.device))
            self.on_s += gates_s.sum(0).to(device)
            self.on_t += gates_t.sum(0).to(device)
            self.both += (gates_s.T @ gates_t).to(device)
        self.rows += len(student)

    def merge(self, other: GateCounts) -> None:
        """Take in what ``other`` has counted."""
        self.rows += other.rows
        self.on_s = self.on_s + other.on_s.to(self.on_s.device)
        self.on_t = self.on_t + other.on_t.to(self.on_t.device)
        self.both = self.both + other.both.to(self.both.device)

    def __getstate__(self) -> dict[str, Any]:
        return {key: part.cpu() if isinstance(part, Tensor) else part for key, part in vars(self).items()}

    def finish(self) -> Tensor:
        """Phi coefficients ``[S, T]`` in [-1, 1]."""
        on_s, on_t, both = self.on_s.cpu(), self.on_t.cpu(), self.both.cpu()
        agreement = self.rows * both - torch.outer(on_s, on_t)
        return ratios(agreement, on_s * (self.rows - on_s), on_t * (self.rows - on_t))


def _gates(rows: Tensor) -> Tensor:
    """1.0 where a node is above 0, else 0.0, in float32."""
    return torch.gt(rows, 0, out=torch.empty(rows.shape, device=rows.device))
