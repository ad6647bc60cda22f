"""Sums over the batches of a pair: rectifiers, boundaries, relative gradients, top-down modulation."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from tsdistill.errors import TsdistillError
from tsdistill.lab.conditions.rectifier_pass import RectifierCall, RectifierPass
from tsdistill.lab.results import LayerConditions


@dataclass
class RectifierSums:
    """Sums over samples for each node of one rectified layer."""

    place: str
    nodes: int
    fit: Tensor
    both: Tensor
    left: list[Tensor] = field(default_factory=list)
    whole: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, gate: RectifierCall) -> RectifierSums:
        """Empty sums for the layer."""
        nodes = gate.before.shape[1]
        return cls(
            gate.place,
            nodes,
            torch.zeros(5, nodes, dtype=torch.float64),
            torch.zeros(2, nodes, dtype=torch.bool),
        )

    def add(self, gate: RectifierCall) -> None:
        """Add a batch: moments of z⁺, z⁻ and φ(z), and on which sides of the boundary samples lie."""
        z, h = gate.before.double(), gate.after.double()
        above, below = z.clamp_min(0), z.clamp_max(0)
        rows = (h * above, above.square(), h * below, below.square(), h.square())
        self.fit += torch.stack([row.sum((0, 2)) for row in rows]).cpu()
        self.both |= torch.stack([(z > 0).any(0).any(-1), (z < 0).any(0).any(-1)]).cpu()

    def rectified(self) -> float:
        """Share of E φ² that the best slopes either side of zero explain, each node its own."""
        tiny = torch.finfo(torch.float64).tiny
        cross_up, up, cross_down, down, energy = self.fit
        explained = cross_up.square() / up.clamp_min(tiny) + cross_down.square() / down.clamp_min(tiny)
        return float(explained.sum() / energy.sum()) if float(energy.sum()) > 0 else 1.0

    def conditions(self) -> LayerConditions:
        """The conditions of the layer."""
        crossed = float(self.both.all(0).double().mean())
        if not self.left:
            return LayerConditions(self.place, self.nodes, self.rectified(), crossed)
        scale = torch.cat(self.whole).square().mean().sqrt()
        ratios = torch.cat(self.left) / scale.clamp_min(torch.finfo(torch.float64).tiny)
        quantiles = ratios.quantile(torch.tensor([0.5, 0.95], dtype=ratios.dtype)).tolist()
        return LayerConditions(self.place, self.nodes, self.rectified(), crossed, *quantiles)


class PairSums:
    """The sums over batches that `tsdistill.lab.check` needs.

    Attributes:
        seen: number of samples so far.
        largest: the largest absolute entry of g_1(x) over samples, nodes and positions.
        smooth: names of smooth non-linear functions that either model calls.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.largest = 0.0
        self.smooth: set[str] = set()
        self._mine: list[RectifierSums] = []
        self._theirs: list[RectifierSums] = []
        self._alpha: Tensor | None = None

    def add(self, student: RectifierPass, teacher: RectifierPass, generator: Generator) -> None:
        """Add a batch of the student and the teacher; ``generator`` draws random projections.

        Raises:
            TsdistillError: outputs of different shapes, or no rectifier.
        """
        if student.output.shape != teacher.output.shape:
            raise TsdistillError(
                f"the student gives {student.output.shape[1]} values a sample and the teacher "
                f"{teacher.output.shape[1]}: the gradient needs outputs of the same shape"
            )
        for one, sums, role in ((student, self._mine, "student"), (teacher, self._theirs, "teacher")):
            if not one.gates:
                raise TsdistillError(
                    f"the {role} calls no rectifier (ReLU, GELU, SiLU, ...): the theorems do not apply to it"
                )
            if not sums:
                sums.extend(RectifierSums.of(gate) for gate in one.gates)
            for gate, each in zip(one.gates, sums, strict=True):
                each.add(gate)
            self.smooth |= one.smooth
        self._gradients(student, teacher)
        self._modulation(student, teacher, generator)
        self.seen += len(student.output)

    def student(self) -> tuple[LayerConditions, ...]:
        """The student's layers."""
        return tuple(sums.conditions() for sums in self._mine)

    def teacher(self) -> tuple[LayerConditions, ...]:
        """The teacher's layers."""
        return tuple(sums.conditions() for sums in self._theirs)

    def alpha(self) -> Tensor | None:
        """E[α_kj] ``[n, m]`` of the lowest layers, float64; ``None`` where their maps differ in size."""
        return None if self._alpha is None else self._alpha / self.seen

    def _gradients(self, student: RectifierPass, teacher: RectifierPass) -> None:
        target = teacher.output.detach().to(student.output)
        student.back(target - student.output.detach())
        lowest = student.gates[0].to_before
        if lowest is not None:
            self.largest = max(self.largest, float(lowest.abs().max()))
        left = [_norms(gate, len(target)) for gate in student.gates]
        student.back(target)
        for sums, norm, gate in zip(self._mine, left, student.gates, strict=True):
            sums.left.append(norm)
            sums.whole.append(_norms(gate, len(target)))

    def _modulation(self, student: RectifierPass, teacher: RectifierPass, generator: Generator) -> None:
        r = torch.randn(student.output.shape, generator=generator)
        student.back(r)
        teacher.back(r)
        v, w = student.gates[0].to_after, teacher.gates[0].to_after
        if v is None or w is None or v.shape[2] != w.shape[2]:
            return
        part = torch.einsum("bkp,bjp->kj", v.double(), w.to(v.device).double()).cpu()
        self._alpha = part if self._alpha is None else self._alpha + part


def _norms(gate: RectifierCall, samples: int) -> Tensor:
    """‖g_l(x)‖ ``[samples]``, float64; 0 without a gradient."""
    if gate.to_before is None:
        return torch.zeros(samples, dtype=torch.float64)
    return gate.to_before.double().flatten(1).norm(dim=1).cpu()
