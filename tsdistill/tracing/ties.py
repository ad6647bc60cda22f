"""Widths that a forward takes from one another: ``x.reshape(B, N, C)`` with the C of another tensor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from math import prod

import numpy as np

from tsdistill.tracing.labels import Product
from tsdistill.tracing.record import Record
from tsdistill.tracing.replay import Replayed, Stale, related, within

Tie = tuple[np.ndarray, np.ndarray]
"""Labels that have to go together, element by element."""


def ties(record: Record, result: Replayed, gone: np.ndarray) -> list[Tie]:
    """What explains the stale numbers that no attribute does: another width that lost just as many nodes.

    A module that reads ``C`` off its input and gives it (or ``C // heads``) to a reshape of something else
    ties both widths. What goes from the one has to go from the other, so that coordinate by coordinate they
    become one. Where no such width explains anything, a number that the module keeps for two widths may.

    Args:
        record: of the whole model.
        result: of the replay; operators that got a number which the cut does not explain.
        gone: for every node whether it goes.
    """
    found: dict[tuple[bytes, ...], Tie] = {}
    for item in result.stale:
        if related(item.step.module, result.broken):
            continue
        for _, _, labels in item.step.sizes:
            if int(record.keeps(labels, gone).sum()) == item.wanted:
                tie = next(_sources(record, item, labels, gone), None)
                if tie is not None:  # once for the same nodes: another order of them would make one of all
                    found.setdefault(tuple(np.unique(record.node_of[side]).tobytes() for side in tie), tie)
    return [*found.values()] or list(_by_one_number(record, result))


def _by_one_number(record: Record, result: Replayed) -> Iterator[Tie]:
    """Widths of one module that were alike and come apart, so that no single number it keeps serves both."""
    alike: dict[tuple[str, int], dict[int, np.ndarray]] = defaultdict(dict)
    for item in result.stale:
        if not related(item.step.module, result.broken):
            alike[item.step.module, len(item.labels)].setdefault(item.wanted, item.labels)
    for (_, size), widths in alike.items():
        first, *others = widths.values()
        yield from ((first, other) for other in others if size > 1 and _apart(record, (first, other)))


def _sources(record: Record, item: Stale, labels: np.ndarray, gone: np.ndarray) -> Iterator[Tie]:
    """Widths met in the same module before, of which as many coordinates are left as were given."""
    size = len(labels)
    for step in reversed(record.trace.steps[: record.trace.steps.index(item.step)]):
        if not within(step.module, item.step.module):
            continue
        for other in step.touched:
            kept = int(record.keeps(other, gone).sum())
            if kept == len(other):
                continue
            if len(other) == size and kept == item.given:
                found = iter([_as_laid_first(record, other, labels)])
            elif len(other) % size == 0 and _divides(kept, item.given, len(other) // size):
                found = _wholes(record, other, labels)
            else:
                continue
            yield from (tie for tie in found if _apart(record, tie))


def _apart(record: Record, tie: Tie) -> bool:
    """Whether there is anything in a tie that does not go together as it is."""
    one, other = (record.node_of[labels] for labels in tie)
    return bool((one != other).any())


def _divides(kept: int, given: int, times: int) -> bool:
    return any(kept // parts == given for parts in range(1, times + 1))


def _wholes(record: Record, other: np.ndarray, axis: np.ndarray) -> Iterator[Tie]:
    """``other`` beside the blocks of its size (or of several times that) of which ``axis`` is a side."""
    for product in record.trace.ledger.products:
        if len(product.whole) % len(other) == 0:
            side = next((i for i, factor in enumerate(product.factors) if _covers(factor, axis)), None)
            if side is not None and (sides := _sides(product, len(other), side)):
                yield _laid(product, sides, other)


def _as_laid_first(record: Record, other: np.ndarray, labels: np.ndarray) -> Tie:
    """``other`` beside ``labels``; where those are a block, beside the first block of the same sides.

    Heads may lie side by side in what leaves an attention, (d, h) instead of (h, d): in one order in one
    module and in another in the next, they would make one of all.
    """
    products = record.trace.ledger.products
    own = next((product for product in products if np.array_equal(product.whole, labels)), None)
    if own is None:
        return other, labels
    axes = [np.unique(factor).tobytes() for factor in own.factors]
    for product in products:
        found = [np.unique(factor).tobytes() for factor in product.factors]
        if len(set(found)) == len(found) and set(axes) <= set(found):
            return _laid(product, sorted(found.index(axis) for axis in axes), other)
    return other, labels


def _sides(product: Product, size: int, side: int) -> tuple[int, ...]:
    """Which sides of a block, with ``side``, have ``size`` coordinates together; the last ones that do."""
    lengths = [len(np.unique(factor)) for factor in product.factors]
    fitting = (
        sides
        for count in range(1, len(lengths) + 1)
        for sides in combinations(range(len(lengths)), count)
        if side in sides and prod(lengths[i] for i in sides) == size
    )
    return max(fitting, default=())


def _laid(product: Product, sides: Sequence[int], other: np.ndarray) -> Tie:
    """``other`` beside a block: coordinate by coordinate along ``sides``, again for each of the rest."""
    rank = np.zeros(len(product.whole), dtype=np.int64)
    for side in sides:
        axis, place = np.unique(product.factors[side], return_inverse=True)
        rank = rank * len(axis) + place
    return other[rank], product.whole


def _covers(factor: np.ndarray, axis: np.ndarray) -> bool:
    return len(factor) >= len(axis) and bool(np.isin(axis, factor).all())
