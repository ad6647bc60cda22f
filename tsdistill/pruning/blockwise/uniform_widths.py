"""Equal widths in every block of a stack: which groups are of one kind, and how many nodes each keeps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tsdistill.errors import BudgetUnreachable
from tsdistill.options.option_fields import written
from tsdistill.pruning.blockwise.block_stack import BlockStack
from tsdistill.pruning.selection.width_constraints import WidthConstraints
from tsdistill.tracing.graph import Group, NodeGraph

_CHUNKS = 64
"""Steps from the whole width of a kind to the least one."""


@dataclass(frozen=True, eq=False)
class GroupKind:
    """Groups that are the same part of each block of a stack, such as its MLP's width.

    Attributes:
        name: of the layer that writes the group, below its block.
        groups: by name of a block.
    """

    name: str
    groups: Mapping[str, Group]

    @property
    def size(self) -> int:
        """Number of nodes of each of them."""
        return next(iter(self.groups.values())).size


def kinds_of(graph: NodeGraph, stacks: Sequence[BlockStack]) -> tuple[GroupKind, ...]:
    """The kinds of groups that lie wholly inside of blocks and that modules read.

    Groups of one place of which some blocks have another number of nodes are no kind.
    """
    by_place: dict[tuple[int, str], dict[str, Group]] = defaultdict(dict)
    for group in graph.groups:
        for number, stack in enumerate(stacks):
            block = stack.block_of(group.name)
            if block is None:
                continue
            inside = all(slot.param.startswith(f"{block}.") for slot in group.slots)
            if inside and group.readers and all(reader.module for reader in group.readers):
                by_place[number, group.name.removeprefix(f"{block}.")][block] = group
    kinds = [GroupKind(place, groups) for (_, place), groups in by_place.items()]
    return tuple(kind for kind in kinds if len({group.size for group in kind.groups.values()}) == 1)


@dataclass(frozen=True, eq=False)
class LossCurve:
    """What a kind loses by its width.

    Attributes:
        kind: the kind.
        losses: float64 ``[size + 1]``: entry k is the loss with k nodes gone; infinite where that is not
            allowed.
    """

    kind: GroupKind
    losses: np.ndarray


def uniform_widths(
    graph: NodeGraph, curves: Sequence[LossCurve], limits: WidthConstraints, cost: str, limit: float
) -> dict[str, int]:
    """How many nodes each group keeps, equal within a kind, so that the least is lost within a budget.

    Widths shrink step by step, always those of the kind that loses least for what its step saves.

    Args:
        graph: the node graph.
        curves: of the kinds that may shrink.
        limits: the least width of each group and its steps.
        cost: ``"params"``, ``"macs"`` or ``"nodes"``.
        limit: what is kept of that.

    Raises:
        BudgetUnreachable: even the least widths are above the limit.
    """
    kept = dict(graph.widths)

    def total(widths: Mapping[str, int]) -> int:
        return graph.figures(widths)[cost]

    def narrowed(curve: LossCurve, width: int) -> dict[str, int]:
        return {**kept, **{group.name: width for group in curve.kind.groups.values()}}

    now = {id(curve): curve.kind.size for curve in curves}
    while (amount := total(kept)) > limit:
        offers = []
        for curve in curves:
            width = now[id(curve)]
            for smaller in _smaller(curve.kind, width, limits):
                lost = curve.losses[curve.kind.size - smaller] - curve.losses[curve.kind.size - width]
                saved = amount - total(narrowed(curve, smaller))
                if saved > 0 and np.isfinite(lost):
                    offers.append((max(lost, 0.0) / saved, -saved, smaller, curve))
        if not offers:
            raise BudgetUnreachable(
                f"equal widths in every block cannot meet the budget: the least of all keep {amount:,} of "
                f"{total(graph.widths):,} {cost}; ask for more, or give {written('uniform', False)}"
            )
        _, _, width, curve = min(offers, key=lambda offer: offer[:2])
        kept, now[id(curve)] = narrowed(curve, width), width
    return _refilled(graph, curves, limits, kept, now, cost, limit)


def _smaller(kind: GroupKind, width: int, limits: WidthConstraints) -> list[int]:
    """Widths below the present one that compete: a step, and more, so that no dear one hides cheap ones."""
    name = next(iter(kind.groups.values())).name
    chunk = max(1, kind.size // _CHUNKS)
    widths = {limits.below(name, width - chunk * number) for number in (1, 2, 4, 8)}
    return sorted(each for each in widths if limits.floors[name] <= each < width)


def _refilled(
    graph: NodeGraph,
    curves: Sequence[LossCurve],
    limits: WidthConstraints,
    kept: dict[str, int],
    now: dict[int, int],
    cost: str,
    limit: float,
) -> dict[str, int]:
    """The widths with what the last step saved too much given back."""
    for curve in sorted(curves, key=lambda each: each.kind.size, reverse=True):
        name = next(iter(curve.kind.groups.values())).name
        while (width := limits.above(name, now[id(curve)])) > now[id(curve)]:
            wider = {**kept, **{group.name: width for group in curve.kind.groups.values()}}
            if graph.figures(wider)[cost] > limit:
                break
            kept, now[id(curve)] = wider, width
    return kept
