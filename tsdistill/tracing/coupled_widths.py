"""Widths that a forward takes from one another: ``x.reshape(B, N, C)`` with the C of another tensor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

import numpy as np

from tsdistill.tracing.graph import NodeGraph
from tsdistill.tracing.labels import OuterProductBlock
from tsdistill.tracing.replay import CutRun, ReplayResult, StaleSize, related, within
from tsdistill.tracing.trace_record import Record

Pair = tuple[np.ndarray, np.ndarray]
"""Labels that have to go together, element by element."""


@dataclass(frozen=True, eq=False)
class WidthCoupling:
    """Two widths of which code takes one from the other.

    Attributes:
        one: labels of one width.
        other: labels of the other one, in the same order: element i of both goes or stays.
        axes: name of a block -> the axis that it should go by now. Where whole heads would go with the
            stream, few nodes would be left, the same in every layer; by the size of a head, each node takes
            as many channels from the stream as there are heads, and no head goes.
    """

    one: np.ndarray
    other: np.ndarray
    axes: Mapping[str, int]

    @property
    def key(self) -> tuple[bytes, bytes]:
        """The same for the same labels."""
        return self.one.tobytes(), self.other.tobytes()


def width_couplings(run: CutRun, result: ReplayResult) -> list[WidthCoupling]:
    """What explains the stale numbers that no attribute does: another width that lost just as many nodes.

    A module that reads ``C`` off its input and gives it (or ``C // heads``) to a reshape of something else
    ties both widths. What goes from the one has to go from the other, so that coordinate by coordinate they
    become one. Where no such width explains anything, a number that the module keeps for two widths may.

    Args:
        run: of the cut model.
        result: of its replay; operators that got a number which the cut does not explain.
    """
    record = run.record
    by_nodes: dict[tuple[bytes, ...], Pair] = {}
    for item in result.stale:
        if related(item.step.module, result.broken):
            continue
        for _, _, labels in item.step.sizes:
            if run.count(labels) == item.wanted:
                tie = next(_sources(run, item, labels), None)
                if tie is not None:  # once for the same nodes: another order of them would make one of all
                    by_nodes.setdefault(tuple(np.unique(record.node_of[side]).tobytes() for side in tie), tie)
    pairs = [*by_nodes.values()] or list(_by_one_number(record, result))
    return [WidthCoupling(*pair, _by_size(record, pair)) for pair in pairs]


def coupling_notes(graph: NodeGraph) -> tuple[str, ...]:
    """What the user has to know of groups that only go together because code takes one width from another."""
    record = graph.record
    if record is None or not record.trace.constraints.couplings:
        return ()
    tied = np.concatenate([record.node_of[one] for one, _ in record.trace.constraints.couplings])
    notes = []
    for group in map(graph.by_name.__getitem__, graph.groups_of(tied)):
        slot = next(slot for slot in group.slots if slot.param in group.writers)
        notes.append(
            f"{group.name}: code takes widths of other layers from this one (as in C // heads), so each "
            f"of its {group.size} nodes is {slot.coords.shape[1]} of its channels and all that goes with "
            "them in those layers"
        )
    return tuple(notes)


def _by_size(record: Record, pair: Pair) -> dict[str, int]:
    """The blocks that go by whole heads with either side of ``pair`` -> their other axis."""
    nodes = np.unique(np.concatenate([record.node_of[labels].ravel() for labels in pair]))
    blocks = record.trace.constraints.blocks
    axes: dict[str, int] = {}
    for name, axis in record.axes.items():
        if np.isin(record.node_of[blocks[name].factors[axis]], nodes[nodes >= 0]).any():
            if name in record.head_size_axes:
                axes[name] = record.head_size_axes[name]
            elif len(blocks[name].factors) == 2:
                axes[name] = 1 - axis
    return axes if axes.keys() & record.head_size_axes.keys() else {}


def _by_one_number(record: Record, result: ReplayResult) -> Iterator[Pair]:
    """Widths of one module that were alike and come apart, so that no single number it keeps serves both."""
    alike: dict[tuple[str, int], dict[int, np.ndarray]] = defaultdict(dict)
    for item in result.stale:
        if not related(item.step.module, result.broken):
            alike[item.step.module, len(item.labels)].setdefault(item.wanted, item.labels)
    for (_, size), widths in alike.items():
        first, *others = widths.values()
        yield from ((first, other) for other in others if size > 1 and _are_separate(record, (first, other)))


def _sources(run: CutRun, item: StaleSize, labels: np.ndarray) -> Iterator[Pair]:
    """Widths met in the same module before, of which as many coordinates are left as were given."""
    record, size = run.record, len(labels)
    for step in reversed(record.trace.steps[: record.trace.steps.index(item.step)]):
        if not within(step.module, item.step.module):
            continue
        for other in step.touched:
            kept = run.count(other)
            if kept == len(other):
                continue
            if len(other) == size and kept == item.computed:
                pairs = iter([_in_first_layout(record, other, labels)])
            elif len(other) % size == 0 and _divides(kept, item.computed, len(other) // size):
                pairs = _multiples(record, other, labels)
            else:
                continue
            yield from (tie for tie in pairs if _are_separate(record, tie))


def _are_separate(record: Record, tie: Pair) -> bool:
    """Whether there is anything in a tie that does not go together as it is."""
    one, other = (record.node_of[labels] for labels in tie)
    return bool((one != other).any())


def _divides(kept: int, count: int, times: int) -> bool:
    return any(kept // parts == count for parts in range(1, times + 1))


def _multiples(record: Record, other: np.ndarray, axis: np.ndarray) -> Iterator[Pair]:
    """``other`` beside the blocks of its size (or of several times that) of which ``axis`` is a side."""
    for product in record.trace.constraints.outer_products:
        if len(product.whole) % len(other) == 0:
            side = next((i for i, factor in enumerate(product.factors) if _covers(factor, axis)), None)
            if side is not None and (sides := _sides(product, len(other), side)):
                yield _spread_sides(product, sides, other)


def _in_first_layout(record: Record, other: np.ndarray, labels: np.ndarray) -> Pair:
    """``other`` beside ``labels``; where those are a block, beside the first block of the same sides.

    Heads may lie side by side in what leaves an attention, (d, h) instead of (h, d): in one order in one
    module and in another in the next, they would make one of all.
    """
    products = record.trace.constraints.outer_products
    own = next((product for product in products if np.array_equal(product.whole, labels)), None)
    if own is None:
        return other, labels
    axes = [np.unique(factor).tobytes() for factor in own.factors]
    for product in products:
        sides = [np.unique(factor).tobytes() for factor in product.factors]
        if len(set(sides)) == len(sides) and set(axes) <= set(sides):
            return _spread_sides(product, sorted(sides.index(axis) for axis in axes), other)
    return other, labels


def _sides(product: OuterProductBlock, size: int, side: int) -> tuple[int, ...]:
    """Which sides of a block, with ``side``, have ``size`` coordinates together; the last ones that do."""
    lengths = [len(np.unique(factor)) for factor in product.factors]
    fitting = (
        sides
        for count in range(1, len(lengths) + 1)
        for sides in combinations(range(len(lengths)), count)
        if side in sides and prod(lengths[i] for i in sides) == size
    )
    return max(fitting, default=())


def _spread_sides(product: OuterProductBlock, sides: Sequence[int], other: np.ndarray) -> Pair:
    """``other`` beside a block: coordinate by coordinate along ``sides``, again for each of the rest."""
    rank = np.zeros(len(product.whole), dtype=np.int64)
    for side in sides:
        axis, place = np.unique(product.factors[side], return_inverse=True)
        rank = rank * len(axis) + place
    return other[rank], product.whole


def _covers(factor: np.ndarray, axis: np.ndarray) -> bool:
    return len(factor) >= len(axis) and bool(np.isin(axis, factor).all())
