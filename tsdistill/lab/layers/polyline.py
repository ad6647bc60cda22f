"""A polyline of low error between two trained students (arXiv 1909.13458, section 3).

In a specialised student every teacher node has an aligned student node, and the other nodes have no fan-out:
they can be changed without changing the function. So the weights of the second student's nodes are copied
into free nodes of the first, the output weights are interpolated, and the copies are moved to their own
indices. R. Kuditipudi et al., "Explaining landscape connectivity of low-cost solutions for multilayer nets"
(2019), construct such a path without a teacher.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.lab.layers.layer_chain import Chain, Elimination, State, chain_of, eliminate_nodes


@dataclass(frozen=True, eq=False)
class Polyline:
    """A path through weights, straight between its vertices.

    Attributes:
        chain: the model of the parameters.
        vertices: parameters, from the first student's to the second's.
        segments: descriptions of the segments, one fewer than vertices.
        kept: number of nodes in use on the inner vertices, for each hidden layer.
    """

    chain: Chain
    vertices: tuple[State, ...]
    segments: tuple[str, ...]
    kept: tuple[int, ...] = ()

    def at(self, place: float) -> dict[str, Tensor]:
        """The parameters at ``place``: 1.5 is half-way along the second segment."""
        segment = min(math.floor(place), len(self.segments) - 1)
        share = place - segment
        start, end = self.vertices[segment], self.vertices[segment + 1]
        return {name: torch.lerp(value, end[name], share) for name, value in start.items()}

    def along(self, measure: Callable[[State], float], points: int) -> tuple[list[float], list[float]]:
        """``measure`` of the parameters at ``points`` evenly spaced places of each segment, and at both ends.

        Returns:
            the places and the measurements.
        """
        places = [step / points for step in range(points * len(self.segments) + 1)]
        return places, [measure(self.at(place)) for place in places]


def straight_line(first: nn.Module, second: nn.Module) -> Polyline:
    """The straight line between two students.

    Raises:
        TsdistillError: the students are not chains of the same shape.
    """
    one, two = _pair(first, second)
    return Polyline(one, (one.state(), two.state()), ("straight",))


def connecting_polyline(
    first: nn.Module, second: nn.Module, x: Tensor, *, keep: Sequence[int] | None = None, seed: int = 0
) -> Polyline:
    """The polyline between two students.

    Segments:

    1. in each hidden layer in turn, nodes of the first student are eliminated and their readers refitted; for
       two layers the loss is convex on this segment, so at most that of the worse end;
    2. the fan-in weights of the second student's kept nodes are copied into free nodes: no change of the
       function;
    3. the output weights are interpolated, which mixes the two students' functions: convex again;
    4. and 5. kept nodes whose own index was in use are moved to it: no change;
    6. the free nodes take the weights of the second student's other nodes: no change;
    7. these regain their fan-out, the reverse of 1.

    So for two layers the loss on the path is nowhere above the largest of the four ends: both students, and
    both with their kept nodes only; this is exact for any loss that is convex in the output.

    Args:
        first: ``nn.Sequential`` as `chain_of` takes it.
        second: another of the same shape.
        x: samples ``[N, ...]`` on which readers are refitted; no labels and no teacher are needed.
        keep: number of kept nodes of each hidden layer, at most half; by default half.
        seed: see `eliminate_nodes`.

    Raises:
        TsdistillError: models that are not chains of the same shape, or too many nodes to keep.
    """
    one, two = _pair(first, second)
    counts = [width // 2 for width in one.widths[:-1]] if keep is None else list(keep)
    if len(counts) != one.hidden:
        raise TsdistillError(
            f"{len(counts)} numbers of nodes to keep for {one.hidden} hidden layers; give one each"
        )
    for layer, (count, width) in enumerate(zip(counts, one.widths[:-1], strict=True)):
        if not 0 < count <= width // 2:
            raise TsdistillError(
                f"layer {one.names[layer]}: {count} of {width} nodes cannot stay while the other student's "
                f"are laid beside them; keep from 1 to {width // 2}, or take wider students"
            )
    leaving = eliminate_nodes(one, one.state(), x, counts, seed)
    coming = eliminate_nodes(two, two.state(), x, counts, seed)
    vertices = [*leaving.states, *_across(one, leaving, coming), *reversed(coming.states[:-1])]
    parts = [f"layer {name}" for name in one.names[1:]] if one.hidden > 1 else [""]
    segments = [
        *(f"first student's other nodes leave{_of(part)}" for part in parts),
        "second student's kept nodes into free slots",
        "output handed over",
        "kept nodes copied to their own slots",
        "readers turn to the copies",
        "other slots take the second student's nodes",
        *(f"second student's other nodes return{_of(part)}" for part in reversed(parts)),
    ]
    return Polyline(one, tuple(vertices), tuple(segments), tuple(counts))


def _of(part: str) -> str:
    return f" (read by {part})" if part else ""


def _pair(first: nn.Module, second: nn.Module) -> tuple[Chain, Chain]:
    one, two = chain_of(first), chain_of(second)
    shapes = [{name: tuple(value.shape) for name, value in each.state().items()} for each in (one, two)]
    if shapes[0] != shapes[1]:
        raise TsdistillError("the two students differ in shape; a path joins students of the same widths")
    return one, two


def _slots(taken: Tensor, wanted: Tensor, width: int) -> Tensor:
    """Free indices for the nodes ``wanted`` while ``taken`` are in use: their own where it is free."""
    free = torch.ones(width, dtype=torch.bool)
    free[taken.cpu()] = False
    own = free[wanted.cpu()]
    free[wanted.cpu()[own]] = False
    slots = wanted.cpu().clone()
    slots[~own] = free.nonzero()[: int((~own).sum()), 0]
    return slots.to(wanted.device)


def _across(chain: Chain, leaving: Elimination, coming: Elimination) -> list[State]:
    """The vertices between the two reduced students, and the second of them."""
    last = chain.hidden
    slots = [
        _slots(taken, wanted, chain.widths[layer])
        for layer, (taken, wanted) in enumerate(zip(leaving.kept, coming.kept, strict=True))
    ]
    end = coming.states[-1]
    laid = _copy(leaving.states[-1])
    for layer in range(last):
        _write(chain, laid, end, layer, coming.kept[layer], slots[layer], coming.kept, slots)
    handed = _copy(laid)
    outputs = torch.arange(chain.widths[-1])
    _write(chain, handed, end, last, outputs, outputs, coming.kept, slots)
    copied, turned = _copy(handed), _copy(handed)
    for layer in range(last):
        _write(chain, copied, end, layer, coming.kept[layer], coming.kept[layer], coming.kept, slots)
        for rows in (slots[layer], coming.kept[layer]):
            _write(chain, turned, end, layer, coming.kept[layer], rows, coming.kept, coming.kept)
    _write(chain, turned, end, last, outputs, outputs, coming.kept, coming.kept)
    return [laid, handed, copied, turned, end]


def _copy(state: State) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


def _write(
    chain: Chain,
    into: State,
    source: State,
    layer: int,
    nodes: Tensor,
    rows: Tensor,
    kept: Sequence[Tensor],
    slots: Sequence[Tensor],
) -> None:
    """Copy the fan-in weights of ``source``'s ``nodes`` to the nodes ``rows`` of ``into``.

    They read the nodes ``kept`` of the layer below, at the indices ``slots``, and no others.
    """
    target, source_weight = chain.by_node(into, layer), chain.by_node(source, layer)
    if layer == 0:
        target[rows] = source_weight[nodes]
    else:
        row = torch.zeros_like(source_weight[nodes])
        row[:, slots[layer - 1]] = source_weight[nodes][:, kept[layer - 1]]
        target[rows] = row
    bias = f"{chain.names[layer]}.bias"
    if bias in into:
        into[bias][rows] = source[bias][nodes]
