"""The node graph: which coordinates of which parameters are one node, and who writes and reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tsdistill.errors import TsdistillError

if TYPE_CHECKING:
    from tsdistill.tracing.trace_record import Record


@dataclass(frozen=True, eq=False)
class Slot:
    """Where the nodes of a group lie in one parameter or buffer.

    Attributes:
        param: name of the parameter or buffer, as in ``model.named_parameters()`` / ``named_buffers()``.
        dim: the dimension of that tensor along which the nodes are laid out.
        coords: int64 array ``[nodes, m]``; row k holds the m coordinates of node k along ``dim``.
    """

    param: str
    dim: int
    coords: np.ndarray


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that contracts over the nodes of a group (part of its fan-out).

    Attributes:
        module: dotted name of the ``nn.Linear`` / convolution whose *first input* carries the nodes;
            ``None`` when the contraction does not belong to such a module (it cannot be hooked then).
        param: the weight that is contracted with the nodes.
        dim: the contracted dimension of ``param``.
        channel_dim: dimension of the module's input along which the nodes lie (1 for convolutions on
            batched input, -1 for linear layers).
        coords: int64 array ``[nodes, m]``: coordinates of node k along ``channel_dim`` of the input. For a
            convolution with several groups these are input channels, not coordinates of ``param``.
    """

    module: str | None
    param: str
    dim: int
    channel_dim: int
    coords: np.ndarray


@dataclass(frozen=True, eq=False)
class Group:
    """Nodes that can be removed one by one from the same set of parameter coordinates (one prunable width).

    Attributes:
        name: the first layer that writes the group, unique in the graph, the same for the same architecture
            at any width.
        size: number of nodes.
        slots: every place in parameters and buffers that goes when a node goes.
        writers: parameters (weights) whose output dimension holds the nodes (fan-in), in forward order.
        readers: layers that contract over the nodes (fan-out), in forward order.
        step: only so many nodes can go, that a multiple of this stays (an operator asks that of memory).
    """

    name: str
    size: int
    slots: tuple[Slot, ...]
    writers: tuple[str, ...]
    readers: tuple[Reader, ...]
    step: int = 1


@dataclass(frozen=True)
class Term:
    """A product of widths: the MACs of one operation, or the number of elements of one parameter.

    The value is ``coefficient * prod_d (fixed_d + sum_g m_dg * kept_g)`` with one factor
    ``(fixed_d, ((group, m_dg), ...))`` a dimension.
    """

    name: str
    coefficient: int
    factors: tuple[tuple[int, tuple[tuple[str, int], ...]], ...]

    def value(self, kept: Mapping[str, int]) -> int:
        """The term's value when ``kept[group]`` nodes remain in each group."""
        result = self.coefficient
        for fixed, parts in self.factors:
            result *= fixed + sum(m * kept[group] for group, m in parts)
        return result


@dataclass(frozen=True)
class Frozen:
    """A width that is not prunable, and why."""

    name: str
    cause: str


@dataclass(frozen=True, eq=False)
class NodeGraph:
    """All prunable groups of a model, what they cost, and what is not prunable.

    ``operations`` are the model's multiply-accumulates at batch 1 (convolutions and matrix products);
    ``sizes`` are its parameters (buffers do not count); ``notes`` are lines for the user.
    """

    groups: tuple[Group, ...]
    operations: tuple[Term, ...] = ()
    sizes: tuple[Term, ...] = ()
    frozen: tuple[Frozen, ...] = ()
    seconds: float = 0.0
    record: Record | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @cached_property
    def by_name(self) -> dict[str, Group]:
        """Groups by name."""
        return {group.name: group for group in self.groups}

    @cached_property
    def starts(self) -> dict[str, int]:
        """The first node of each group, numbered over all groups in order."""
        starts, count = {}, 0
        for group in self.groups:
            starts[group.name] = count
            count += group.size
        return starts

    def groups_of(self, nodes: np.ndarray) -> list[str]:
        """Names of the groups that hold any of ``nodes`` (int64, any shape; negative ones are none), in
        order."""
        starts = [*self.starts.values()]
        places = np.searchsorted(starts, np.unique(nodes[nodes >= 0]), side="right") - 1
        return [self.groups[place].name for place in np.unique(places)]

    @property
    def traced(self) -> Record:
        """The trace behind this graph.

        Raises:
            TsdistillError: the graph was built by hand.
        """
        if self.record is None:
            raise TsdistillError("this node graph was built by hand; trace the model to cut it")
        return self.record

    @cached_property
    def widths(self) -> dict[str, int]:
        """Number of nodes of each group, before any cut."""
        return {group.name: group.size for group in self.groups}

    def macs(self, kept: Mapping[str, int] | None = None) -> int:
        """MACs at batch 1 when ``kept[group]`` nodes remain (all of a group that is not named)."""
        return self._total(self.operations, kept)

    def params(self, kept: Mapping[str, int] | None = None) -> int:
        """Number of parameters when ``kept[group]`` nodes remain (all of a group that is not named)."""
        return self._total(self.sizes, kept)

    def figures(self, kept: Mapping[str, int] | None = None) -> dict[str, int]:
        """``{"params", "macs", "nodes"}`` when ``kept[group]`` nodes remain (see `macs`)."""
        nodes = sum({**self.widths, **(kept or {})}.values())
        return {"params": self.params(kept), "macs": self.macs(kept), "nodes": nodes}

    def _total(self, terms: tuple[Term, ...], kept: Mapping[str, int] | None) -> int:
        widths = {**self.widths, **(kept or {})}
        return sum(term.value(widths) for term in terms)
