"""Teacher-aware augmentation: samples moved onto the boundary of a teacher's node and to both its sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn

from tsdistill.augmentation.rectifiers import StopForward, by_node, run_with_callback
from tsdistill.augmentation.strategy_protocol import Setting
from tsdistill.augmentation.teacher_nodes import TeacherNodes, nodes_of
from tsdistill.errors import TsdistillError
from tsdistill.options.option_fields import written
from tsdistill.runtime.modes import evaluation_mode

_BOUNDARY_TOLERANCE = 1e-6
"""Distance of a pre-activation from 0, in standard deviations of the node's pre-activation, up to which a
sample lies on the boundary: ten times the rounding error of float32 (1e-7 relative)."""


@dataclass(frozen=True)
class TeacherAware:
    """Samples onto a teacher node's boundary and to both sides; favoured by theory where samples are few.

    Points on the boundaries of the teacher's nodes and at both sides along the normal, x ± eps w*, are what
    Theorem 5 of Y. Tian, "Student specialization in deep ReLU networks with finite width and input dimension"
    (2020) asks for; random directions need far more samples to come near them. Every sample draws its own
    node, by strength, and its own position of a feature map, and moves along the input gradient of that
    pre-activation: exactly onto the boundary in the first layer (one step), by Newton steps that are halved
    when they do not come nearer in deeper ones. One backward pass a step serves the whole batch.

    The targets must be the teacher's: a label need not hold where the sample has moved to.

    Args:
        scale: how far to the sides, in standard deviations of the node's pre-activation.
        steps: Newton steps at most; none is taken when all samples have arrived.
        share: part of the samples that moves.
        copies: give three samples of each, on the boundary and at either side (those that do not move three
            times), in place of one of the three by chance.
        depth: take nodes of that many rectifiers only, from the input on; 0 for all.
        samples: samples on which strength is measured.
        teacher: the model, given by `prepare`.
        nodes: its nodes, likewise.
    """

    scale: float = 1.0
    steps: int = 5
    share: float = 0.5
    copies: bool = False
    depth: int = 0
    samples: int = 512
    teacher: nn.Module | None = None
    nodes: TeacherNodes | None = None

    name = "teacher-aware"
    needs_teacher = True

    def __post_init__(self) -> None:
        if self.scale < 0 or self.steps < 1 or not 0 <= self.share <= 1 or self.depth < 0 or self.samples < 2:
            raise TsdistillError(
                "teacher-aware takes scale >= 0, steps >= 1, share from 0 to 1, depth >= 0 and samples >= 2, "
                f"not scale={self.scale:g}, steps={self.steps}, share={self.share:g}, depth={self.depth}, "
                f"samples={self.samples}"
            )

    @property
    def expands(self) -> int:
        """Samples made of each."""
        return 3 if self.copies else 1

    def prepare(self, setting: Setting) -> TeacherAware:
        """The strategy with the teacher and the strength of its nodes.

        Raises:
            TsdistillError: there is no teacher, or it has no node with a boundary.
        """
        if setting.teacher is None:
            raise TsdistillError(
                f"teacher-aware needs a teacher; give {written('teacher')}, or use teacher-agnostic"
            )
        nodes = nodes_of(
            setting.teacher,
            setting.batches(),
            setting.generator,
            samples=self.samples,
            depth=self.depth or None,
        )
        return replace(self, teacher=setting.teacher, nodes=nodes)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """The moved batch; samples of any floating shape ``(batch, ...)``.

        Raises:
            TsdistillError: the samples are not floating, or `prepare` was not called.
        """
        if self.teacher is None or self.nodes is None:
            raise TsdistillError("teacher-aware needs a teacher before it can move samples; prepare it")
        if not x.is_floating_point():
            raise TsdistillError("the augmentation teacher-aware moves real values, not integers; use none")
        nodes = self.nodes.draw(len(x), generator)
        place = torch.rand(len(x), generator=generator)
        side = torch.randint(-1, 2, (len(x),), generator=generator)
        moves = torch.rand(len(x), generator=generator) < self.share
        samples = x.repeat(self.expands, *[1] * (x.ndim - 1))
        if not bool(moves.any()):
            return samples
        nodes, place, side = nodes[moves], place[moves], side[moves]
        moved = moves.nonzero()[:, 0].to(x.device)
        projection = BoundaryProjection(self.teacher, self.nodes, nodes, place)
        onto, normal = projection.approach(x[moved], self.steps)
        reach = _per_sample((self.scale * self.nodes.spread[nodes]).to(x), x) * normal
        signs: tuple[int | Tensor, ...] = (0, 1, -1) if self.copies else (_per_sample(side.to(x), x),)
        for block, sign in enumerate(signs):
            samples[moved + block * len(x)] = onto + sign * reach
        return samples


class BoundaryProjection:
    """One node of a teacher for each of ``n`` samples.

    Args:
        teacher: the model.
        nodes: its nodes.
        node: int64 ``[n]``, the node of each sample.
        place: ``[n]`` in [0, 1): which of the node's positions.
    """

    def __init__(self, teacher: nn.Module, nodes: TeacherNodes, node: Tensor, place: Tensor) -> None:
        self._teacher, self._place = teacher, place
        self._call, self._channel = nodes.call[node], nodes.channel[node]
        self._tolerance = _BOUNDARY_TOLERANCE * nodes.spread[node]
        self._last = int(self._call.max())

    def _pre_activations(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            pre_activations = torch.zeros(len(x), dtype=x.dtype, device=x.device)

            def see(call: int, before: Tensor, through: Callable[[], Tensor], dim: int) -> Tensor:
                nonlocal pre_activations
                rows = (self._call == call).nonzero()[:, 0]
                if len(rows):
                    values = by_node(before, dim)
                    position = (self._place[rows] * values.shape[2]).long().clamp_max(values.shape[2] - 1)
                    z = values[rows, self._channel[rows], position]
                    pre_activations = pre_activations.index_put((rows.to(x.device),), z.to(pre_activations))
                if call == self._last:
                    raise StopForward
                return through()

            run_with_callback(self._teacher, x, see)
            (gradient,) = torch.autograd.grad(pre_activations.sum(), x)
        return pre_activations.detach(), gradient

    def approach(self, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Samples moved onto the boundary of their node, z = 0, as far as ``steps`` Newton steps go.

        Returns:
            the samples, and ``∇z/‖∇z‖²`` there: what to add for z to grow by 1. Where z does not depend on
            the sample, the sample stays and this is 0.
        """
        with evaluation_mode(self._teacher):
            best, (z, slope) = x, self._pre_activations(x)
            stride = torch.ones_like(z)
            tolerance = self._tolerance.to(z)
            for _ in range(steps):
                if bool((z.abs() <= tolerance).all()):
                    break
                trial = best - _per_sample(stride * z, x) * _newton(slope)
                trial_z, trial_slope = self._pre_activations(trial)
                better = trial_z.abs() < z.abs()
                stride = torch.where(better, torch.ones_like(stride), stride / 2)
                best = torch.where(_per_sample(better, x), trial, best)
                slope = torch.where(_per_sample(better, x), trial_slope, slope)
                z = torch.where(better, trial_z, z)
        return best, _newton(slope)

    def pre_activations(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z ``[n]`` of each sample's node, and its gradient with respect to the sample, shaped as ``x``."""
        with evaluation_mode(self._teacher):
            return self._pre_activations(x)


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    """One figure a sample, to be broadcast over the sample."""
    return values.view(-1, *[1] * (like.ndim - 1))


def _newton(slope: Tensor) -> Tensor:
    """∇z/‖∇z‖², 0 where the gradient is."""
    flat = slope.flatten(1)
    square = flat.square().sum(1, keepdim=True)
    return torch.where(square > 0, flat / square, torch.zeros_like(flat)).view_as(slope)
