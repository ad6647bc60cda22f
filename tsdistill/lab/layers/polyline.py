"""Two trained students joined by a polyline of low error (1909.13458, section 3; Kuditipudi 2019).

What the theory says of a student that has specialised (every teacher node has an aligned student node, the
others have no fan-out) is enough to walk from one student to another: nodes that nothing depends on may be
moved at no cost, so the second student's nodes are laid into the slots that the first one frees, the output
is handed over, and its nodes are moved to where they belong. R. Kuditipudi et al., "Explaining landscape
connectivity of low-cost solutions for multilayer nets" (2019), walk the same way without a teacher.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.lab.layers.layer_chain import Chain, State, chain
from tsdistill.lab.layers.node_elimination import Thinned, thinned


@dataclass(frozen=True, eq=False)
class Polyline:
    """A path through weights, straight between its vertices.

    Attributes:
        chain: the model that takes them.
        vertices: parameters; the first student's, ..., the second's.
        segments: what each of the pieces does, one fewer.
        kept: how many nodes carry the function on the way, one number a hidden layer.
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
        """``measure`` of the parameters at ``points`` even steps of each segment, both ends of the path too.

        Returns:
            the places and what was measured.
        """
        places = [step / points for step in range(points * len(self.segments) + 1)]
        return places, [measure(self.at(place)) for place in places]


def straight(first: nn.Module, second: nn.Module) -> Polyline:
    """The straight line between two students.

    Raises:
        TsdistillError: they are no chains of the same shape.
    """
    one, two = _pair(first, second)
    return Polyline(one, (one.state(), two.state()), ("straight",))


def connect(
    first: nn.Module, second: nn.Module, x: Tensor, *, keep: Sequence[int] | None = None, seed: int = 0
) -> Polyline:
    """The polyline between two students.

    Segments: (1) in each hidden layer in turn, nodes of the first student leave and their readers take over
    what the others predict of them; for two layers the loss is convex on this piece, so not above both ends;
    (2) fan-in weights of the second student's kept nodes move into the freed slots: the function does not
    change; (3) the output is handed over, a mixture of the two students' functions: convex again; (4, 5) kept
    nodes move on to their own slots where these were taken: no change; (6) the freed slots take the second
    student's other nodes: no change; (7) these get their fan-out back, as (1).

    So for two layers the loss on the path is nowhere above the largest of the four ends: both students, and
    both with their kept nodes only; this is exact for any loss that is convex in the output.

    Args:
        first: ``nn.Sequential`` as `chain` takes it.
        second: another of the same shape.
        x: samples ``[N, ...]`` on which readers are refitted; no labels and no teacher are needed.
        keep: nodes that stay in each hidden layer, at most half of them; half by default.
        seed: see `thinned`.

    Raises:
        TsdistillError: models that are no chains of the same shape, or too many nodes to keep.
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
    leaving = thinned(one, one.state(), x, counts, seed)
    coming = thinned(two, two.state(), x, counts, seed)
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
    one, two = chain(first), chain(second)
    shapes = [{name: tuple(value.shape) for name, value in each.state().items()} for each in (one, two)]
    if shapes[0] != shapes[1]:
        raise TsdistillError("the two students differ in shape; a path joins students of the same widths")
    return one, two


def _slots(taken: Tensor, wanted: Tensor, width: int) -> Tensor:
    """Where the nodes ``wanted`` lie while ``taken`` slots are not free: their own slot where it is free."""
    free = torch.ones(width, dtype=torch.bool)
    free[taken.cpu()] = False
    own = free[wanted.cpu()]
    free[wanted.cpu()[own]] = False
    slots = wanted.cpu().clone()
    slots[~own] = free.nonzero()[: int((~own).sum()), 0]
    return slots.to(wanted.device)


def _across(chain: Chain, leaving: Thinned, coming: Thinned) -> list[State]:
    """The vertices between the two thinned students, the second one at the end."""
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
    """Give the slots ``rows`` of a layer the fan-in weights of ``source``'s ``nodes``.

    Of the layer below they read ``kept`` where it lies in ``slots``, and nothing else.
    """
    target, given = chain.by_node(into, layer), chain.by_node(source, layer)
    if layer == 0:
        target[rows] = given[nodes]
    else:
        row = torch.zeros_like(given[nodes])
        row[:, slots[layer - 1]] = given[nodes][:, kept[layer - 1]]
        target[rows] = row
    bias = f"{chain.names[layer]}.bias"
    if bias in into:
        into[bias][rows] = source[bias][nodes]
