"""Inputs and outputs of a model's rectifiers in a forward pass, and the gradients with respect to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode

from tsdistill.augmentation.rectifiers import by_node, run_with_callback
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.named_outputs import main_output
from tsdistill.lab.results import LayerConditions
from tsdistill.runtime.forward import to_model
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks

SMOOTH = frozenset({"tanh", "sigmoid", "softmax", "softplus", "hardsigmoid", "scaled_dot_product_attention"})
"""Names of non-linear functions without a boundary: the theorems do not cover nodes behind them."""


@dataclass
class RectifierCall:
    """One call of a rectifier on one batch.

    Attributes:
        place: path of the module that calls it, with ``#2`` at its second call.
        before: pre-activations ``[samples, nodes, positions]``.
        after: activations, likewise.
        to_before: gradient with respect to ``before`` of the last `RectifierPass.back`, likewise.
        to_after: gradient with respect to ``after``, likewise.
    """

    place: str
    before: Tensor
    after: Tensor
    to_before: Tensor | None = None
    to_after: Tensor | None = None


class RectifierPass:
    """A forward pass of a model on a batch that can be differentiated several times.

    Args:
        model: in evaluation mode.
        x: samples ``[n, ...]``, floating.

    Attributes:
        output: ``[n, values]``, the main output, flattened.
        gates: calls of rectifiers in forward order.
        smooth: names of functions in `SMOOTH` that were called.

    Raises:
        TsdistillError: the forward pass fails, the output is not floating or does not depend on the samples.
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.gates: list[RectifierCall] = []
        self.smooth: set[str] = set()
        self._x = to_model(x, model).detach().requires_grad_()
        calls: dict[str, int] = {}
        with torch.enable_grad(), _where(model) as stack, _SmoothFunctionMode(self.smooth):

            def see(_: int, before: Tensor, through: Callable[[], Tensor], dim: int) -> Tensor:
                name = stack[-1]
                calls[name] = calls.get(name, 0) + 1
                place = name if calls[name] == 1 else f"{name}#{calls[name]}"
                values = by_node(before.detach(), dim).clone()
                gate = RectifierCall(place, values, values)
                self.gates.append(gate)
                _listen(before, dim, gate, "to_before")
                after = through()
                gate.after = by_node(after.detach(), dim).clone()
                _listen(after, dim, gate, "to_after")
                return after

            output = main_output(run_with_callback(model, self._x, see))
        self.output = output.flatten(1)
        if not self.output.requires_grad:
            raise TsdistillError(
                "the model's output does not depend on its input in a way that has a gradient"
            )

    def back(self, direction: Tensor) -> None:
        """Set the gradients of all calls for Σ direction · output, ``direction`` ``[n, values]``."""
        for gate in self.gates:
            gate.to_before = gate.to_after = None
        torch.autograd.grad(self.output, self._x, direction.to(self.output), retain_graph=True)


def _listen(value: Tensor, dim: int, gate: RectifierCall, name: str) -> None:
    if value.requires_grad:
        value.register_hook(lambda gradient: setattr(gate, name, by_node(gradient.detach(), dim)))


@contextmanager
def _where(model: nn.Module) -> Iterator[list[str]]:
    """A stack of module paths; its last entry is the module that runs."""
    stack = [""]

    def push(call: ModuleCall) -> None:
        stack.append(call.name)

    def pop(_: ModuleCall) -> None:
        stack.pop()

    modules = {path: module for path, module in model.named_modules() if path}
    with ModuleHooks(modules, before=push, after=pop, always=True):
        yield stack


class _SmoothFunctionMode(TorchFunctionMode):
    def __init__(self, names: set[str]) -> None:
        super().__init__()
        self._names = names

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in SMOOTH:
            self._names.add(name)
        return func(*args, **(kwargs or {}))


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
