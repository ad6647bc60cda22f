"""Observers in real models: samples moved onto the teacher's lowest boundaries, and who is active there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tsdistill.augmentation.boundary_samples import Aim
from tsdistill.augmentation.rectifiers import Stop, by_node, run
from tsdistill.augmentation.teacher_nodes import nodes_of
from tsdistill.runtime.forward import to_model
from tsdistill.runtime.progress import Progress, tell

BOUNDARIES = "points on boundaries"

CHUNK = 64
STEPS = 5
NEAR = 1e-3
"""A sample is on a boundary when |z| is at most this part of the pre-activation's standard deviation."""
ALIVE = 0.01
"""A student node takes part when its strength is at least this part of the layer's largest."""


@dataclass(frozen=True)
class Boundaries:
    """Boundaries of the teacher's lowest nodes.

    Attributes:
        share: of the nodes, those that an active student node observes.
        observers: median over these of the number of student nodes that do.
        reached: share of the nodes whose boundary a sample could be moved to.
        notes: what a reader should know.
    """

    share: float
    observers: float
    reached: float
    notes: tuple[str, ...] = ()


def watch_boundaries(
    model: nn.Module, teacher: nn.Module, x: Tensor, points: int, seed: int, progress: Progress | None = None
) -> Boundaries:
    """Move samples onto the boundary of each of the teacher's lowest nodes and run the student there.

    Args:
        model: the student, at rest.
        teacher: the teacher, at rest.
        x: samples ``[N, ...]``.
        points: samples a node.
        seed: which samples, and positions of a feature map.
        progress: is told how many points are done.

    Returns:
        who observes what. Where both models' lowest maps are of one size, a student node observes where the
        boundary is met, else anywhere.
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
    for start in range(0, len(chosen), CHUNK):
        part = slice(start, start + CHUNK)
        aim = Aim(teacher, nodes, chosen[part], place[part])
        moved, _ = aim.approach(to_model(x[picked[part]], teacher), STEPS)
        z, _ = aim.pre_activations(moved)
        arrived = z.abs().cpu() <= NEAR * nodes.spread[chosen[part]]
        active = _active(model, moved, place[part], positions).cpu() & alive
        for j, there, who in zip(chosen[part].tolist(), arrived.tolist(), active, strict=True):
            if there:
                reached[j] = True
                watching[j] |= who
        tell(progress, BOUNDARIES, min(start + CHUNK, len(chosen)), len(chosen))
    observed = watching.any(1)
    numbers = watching.sum(1)[observed].double()
    missed = int((~reached).sum())
    notes = (f"{missed} of the teacher's {count} lowest nodes: no sample could be moved to the boundary",)
    return Boundaries(
        float(observed.double().mean()),
        float(numbers.median()) if len(numbers) else 0.0,
        float(reached.double().mean()),
        notes if missed else (),
    )


def _first(model: nn.Module, x: Tensor) -> Tensor:
    """Pre-activations of the first rectifier ``[samples, nodes, positions]``."""
    found: list[Tensor] = []

    def see(call: int, before: Tensor, through: Callable[[], Tensor], dim: int) -> Tensor:
        found.append(by_node(before.detach(), dim))
        raise Stop

    with torch.no_grad():
        run(model, x, see)
    return found[0]


def _active(model: nn.Module, x: Tensor, place: Tensor, positions: int) -> Tensor:
    """bool ``[samples, nodes]``: active at the sample's position, or anywhere when sizes differ."""
    on = _first(model, x) > 0
    if on.shape[2] != positions:
        return on.any(2)
    index = (place * positions).long().clamp_max(positions - 1).to(on.device)
    return on[torch.arange(len(on), device=on.device), :, index]
