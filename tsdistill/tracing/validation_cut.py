"""The validation cut: about half of every group is removed, so that no size is right by chance."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from tsdistill.tracing.graph import NodeGraph

_MIN_REMOVED, _MAX_REMOVED = 0.35, 0.65
"""Shares of a large group's nodes between which the removed number lies: near a half, but different for
groups of the same size."""

_PAIR, _SMALL = 2, 16
"""Group sizes: of two nodes only one can be removed; below 16 there are too few numbers near a half to draw
from."""

_FEW = 3
"""Up to this many odd numbers of kept nodes, even ones are used as well."""


def validation_cut_count(graph: NodeGraph) -> int:
    """Number of validation cuts that give all widths different sizes: two where several groups have two
    nodes, which can only lose one or none."""
    return 2 if sum(group.size == _PAIR for group in graph.groups) > 1 else 1


def validation_cut(graph: NodeGraph, turn: int = 0, *, other: bool = False) -> dict[str, np.ndarray]:
    """Per group the nodes that the validation cut removes.

    Of groups of the same number of nodes (a stream, and what is as wide inside its blocks) the one with most
    slots loses another number than all others, which lose one number after the other in turns (of two nodes
    one leaves in the first turn and the others in the second): widths that code takes from one another then
    come apart in every block at once. Of groups that are not small an odd number stays, which is no whole
    number of heads (but where only whole steps can go). The ``other`` validation cut of the same kind removes
    other numbers, so that what agreed by chance in one does not in both.
    """
    widest: dict[int, str] = {}
    for group in sorted(graph.groups, key=lambda group: len(group.slots)):
        widest[group.size] = group.name
    turns: dict[int, int] = defaultdict(int)
    trial = {}
    for index, group in enumerate(graph.groups):
        rng = np.random.default_rng(index)
        if group.step > 1:
            kept = group.size // 2 // group.step * group.step
            if kept:
                trial[group.name] = np.sort(rng.permutation(group.size)[kept:])
            continue
        if group.size >= _SMALL:
            count, *others = _removal_counts(group.size, other=other)
            if widest[group.size] != group.name and others:
                count = others[turns[group.size] % len(others)]
                turns[group.size] += 1
        elif group.size == _PAIR:
            if (widest[_PAIR] == group.name) != (turn == 0) and validation_cut_count(graph) > 1:
                continue
            count = 1
        else:
            count = group.size // 2 - other
            if widest[group.size] != group.name:
                turns[group.size] += 1
                count += 1 if turns[group.size] % 2 != other or count < 2 else -1
        trial[group.name] = np.sort(rng.permutation(group.size)[: min(max(count, 1), group.size - 1)])
    return trial


def _removal_counts(size: int, *, other: bool = False) -> list[int]:
    """About half of ``size``, in an order drawn at random, such that an odd number stays; where those are
    few, others behind them. The ``other`` order begins with the last one."""
    least, most = round(size * _MIN_REMOVED), round(size * _MAX_REMOVED)
    counts = np.arange(least, most + 1)
    odd = np.random.default_rng(size).permutation(counts[(size - counts) % 2 == 1]).tolist()
    numbers = odd if len(odd) > _FEW else odd + counts[(size - counts) % 2 == 0].tolist()
    return numbers[::-1] if other else numbers
