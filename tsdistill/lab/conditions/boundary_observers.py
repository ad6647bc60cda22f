"""Observers in trained models: student nodes that are active on the teacher's lowest boundaries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tsdistill.augmentation.boundary_samples import BoundaryProjection
from tsdistill.augmentation.rectifiers import StopForward, by_node, run_with_callback
from tsdistill.augmentation.teacher_nodes import nodes_of
from tsdistill.runtime.forward import to_model
from tsdistill.runtime.progress import Progress, tell

BOUNDARIES = "points on boundaries"

BATCH_POINTS = 64
"""Points that are moved onto boundaries in one batch; bounds the memory of the passes."""
NEWTON_STEPS = 5
"""Steps of each point towards its boundary, as many as the augmentation ``teacher-aware`` takes."""
NEAR = 1e-3
"""A sample is on a boundary when |z| is at most this part of the pre-activation's standard deviation,
which Newton's steps undercut by far where they converge."""
ALIVE = 0.01
"""A student node takes part when its strength is at least this part of the layer's largest, the share below
which a node is weak by default (`tsdistill.options.AnalysisOptions`)."""


@dataclass(frozen=True)
class BoundaryObservers:
    """The observers of the teacher's lowest nodes.

    Attributes:
        share: share of these nodes that an active student node observes, from 0 to 1.
        observers: median number of student nodes that observe such a node.
        reached: share of the nodes whose boundary a sample was moved onto, from 0 to 1.
        notes: remarks for the report.
    """

    share: float
    observers: float
    reached: float
    notes: tuple[str, ...] = ()


def observe_boundaries(
    model: nn.Module, teacher: nn.Module, x: Tensor, points: int, seed: int, progress: Progress | None = None
) -> BoundaryObservers:
    """Move samples onto the boundary of each of the teacher's lowest nodes and run the student there.

    Args:
        model: the student, in evaluation mode.
        teacher: the teacher, in evaluation mode.
        x: samples ``[N, ...]``.
        points: samples for each node.
        seed: of the choice of samples and of positions of a feature map.
        progress: called with the number of points done.

    Returns:
        the observers. If the lowest maps of both models have the same size, a student node has to be active
        at the position of the boundary, else at any position.
    """
    generator = torch.Generator().manual_seed(seed)
    nodes = nodes_of(teacher, [x], generator, samples=len(x), depth=1)
    alive = nodes_of(model, [x], generator, samples=len(x), depth=1).strength
    alive = alive >= ALIVE * alive.max()
    count = len(nodes.channel)
    chosen = torch.arange(count).repeat_interleave(points)
    place = torch.rand(len(chosen), generator=generator)
    picked = torch.randint(len(x), (len(chosen),), generator=generator)
    reached = torch.zeros(count, dtype=torch.bool)
    watching = torch.zeros(count, len(alive), dtype=torch.bool)
    positions = _first(teacher, x[:1]).shape[2]
    for start in range(0, len(chosen), BATCH_POINTS):
        part = slice(start, start + BATCH_POINTS)
        aim = BoundaryProjection(teacher, nodes, chosen[part], place[part])
        moved, _ = aim.approach(to_model(x[picked[part]], teacher), NEWTON_STEPS)
        z, _ = aim.pre_activations(moved)
        arrived = z.abs().cpu() <= NEAR * nodes.spread[chosen[part]]
        active = _active(model, moved, place[part], positions).cpu() & alive
        for j, is_on_boundary, is_active in zip(chosen[part].tolist(), arrived.tolist(), active, strict=True):
            if is_on_boundary:
                reached[j] = True
                watching[j] |= is_active
        tell(progress, BOUNDARIES, min(start + BATCH_POINTS, len(chosen)), len(chosen))
    observed = watching.any(1)
    numbers = watching.sum(1)[observed].double()
    missed = int((~reached).sum())
    notes = (f"{missed} of the teacher's {count} lowest nodes: no sample could be moved to the boundary",)
    return BoundaryObservers(
        float(observed.double().mean()),
        float(numbers.median()) if len(numbers) else 0.0,
        float(reached.double().mean()),
        notes if missed else (),
    )


def _first(model: nn.Module, x: Tensor) -> Tensor:
    """Pre-activations of the first rectifier ``[samples, nodes, positions]``."""
    pre_activations: list[Tensor] = []

    def see(_call: int, before: Tensor, _through: Callable[[], Tensor], dim: int) -> Tensor:
        pre_activations.append(by_node(before.detach(), dim))
        raise StopForward

    with torch.no_grad():
        run_with_callback(model, x, see)
    return pre_activations[0]


def _active(model: nn.Module, x: Tensor, place: Tensor, positions: int) -> Tensor:
    """bool ``[samples, nodes]``: active at the sample's position, or anywhere when sizes differ."""
    on = _first(model, x) > 0
    if on.shape[2] != positions:
        return on.any(2)
    index = (place * positions).long().clamp_max(positions - 1).to(on.device)
    return on[torch.arange(len(on), device=on.device), :, index]
