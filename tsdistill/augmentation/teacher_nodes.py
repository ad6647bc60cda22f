"""Nodes of a teacher by what they contribute to its output, to draw them by strength."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from tsdistill.augmentation.rectifiers import by_node, run_with_callback
from tsdistill.errors import TsdistillError
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import tensors


@dataclass(frozen=True, eq=False)
class TeacherNodes:
    """All N nodes of a teacher in forward order.

    Attributes:
        call: int64 ``[N]``: in which rectifier's call of a forward pass each is.
        channel: int64 ``[N]``: which of that call's nodes it is.
        strength: float64 ``[N]``, s_k = sqrt(E[β_kk] Var(h_k)), in units of the output.
        spread: float64 ``[N]``, standard deviation of the pre-activation.
    """

    call: Tensor
    channel: Tensor
    strength: Tensor
    spread: Tensor

    def draw(self, count: int, generator: Generator) -> Tensor:
        """int64 ``[count]``: nodes drawn with probability proportional to strength."""
        return torch.multinomial(self.strength, count, replacement=True, generator=generator)


@dataclass
class _Sums:
    rows: int = 0
    sensitivity: Tensor | float = 0.0
    moments: list[Tensor | float] = field(default_factory=lambda: [0.0] * 4)


def nodes_of(
    teacher: nn.Module,
    batches: Iterable[Tensor],
    generator: Generator,
    *,
    samples: int = 512,
    depth: int | None = None,
) -> TeacherNodes:
    """Every node whose pre-activation a rectifier sees, its strength and its spread.

    Strength is measured where the activation leaves the rectifier: β_kk (arXiv 1909.13458, Lemma 1) as
    E (rᵀ ∂f/∂h_k)² over random output projections r ~ N(0, I), summed over positions; the variance is over
    samples and positions.

    Args:
        teacher: the model.
        batches: samples ``(n, ...)`` to look at.
        generator: of the projections.
        samples: after how many to stop.
        depth: how many calls of rectifiers to look at, from the input on; all without it.

    Raises:
        TsdistillError: no rectifier is called, the output does not depend on any, or there is no data.
    """
    sums_by_call: dict[int, _Sums] = {}
    seen = 0

    def see(call: int, before: Tensor, through: Callable[[], Tensor], dim: int) -> Tensor:
        if depth is not None and call >= depth:
            return through()
        sums = sums_by_call.setdefault(call, _Sums())
        z = by_node(before.detach(), dim).double()
        after = through()
        h = by_node(after.detach(), dim).double()
        sums.rows += z.shape[0] * z.shape[2]
        for place, values in enumerate((z, z.square(), h, h.square())):
            sums.moments[place] += values.sum((0, 2))

        def collect(gradient: Tensor) -> None:
            sums.sensitivity += by_node(gradient, dim).double().square().sum((0, 2))

        after.register_hook(collect)
        return after

    with evaluation_mode(teacher), torch.enable_grad():
        for x in batches:
            x = x[: samples - seen].detach().requires_grad_(x.is_floating_point())
            outputs = [y for y in tensors(run_with_callback(teacher, x, see)) if y.requires_grad]
            normal = [torch.randn(y.shape, generator=generator).to(y) for y in outputs]
            torch.autograd.backward(outputs, normal)
            seen += len(x)
            if seen >= samples:
                break
    if not seen:
        raise TsdistillError("there are no samples to measure the teacher's nodes on; give other data")
    return _gathered(sums_by_call, seen)


def _gathered(sums_by_call: dict[int, _Sums], seen: int) -> TeacherNodes:
    parts = []
    for call, sums in sorted(sums_by_call.items()):
        z, zz, h, hh = (torch.as_tensor(each).cpu() / sums.rows for each in sums.moments)
        beta = torch.as_tensor(sums.sensitivity, dtype=torch.float64).cpu() / seen
        strength = (beta * (hh - h.square()).clamp_min(0)).sqrt()
        spread = (zz - z.square()).clamp_min(0).sqrt()
        parts.append((torch.full((len(z),), call), torch.arange(len(z)), strength.expand(len(z)), spread))
    if not parts:
        raise TsdistillError(
            "no node with a rectifier (ReLU, GELU, SiLU, ...) was found in the teacher; use teacher-agnostic"
        )
    if not any(float(strength.sum()) > 0 for _, _, strength, _ in parts):
        raise TsdistillError(
            f"no node of the teacher does anything for its output on these {seen} samples; give other data, "
            "or use teacher-agnostic"
        )
    return TeacherNodes(*(torch.cat(each) for each in zip(*parts, strict=True)))
