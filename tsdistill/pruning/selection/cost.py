"""What a network costs, as a budget sees it: how amounts are written, and what they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn

from tsdistill import plugins
from tsdistill.tracing.graph import NodeGraph, Term

KIND = "cost"


@dataclass(frozen=True)
class Amounts:
    """How amounts of a cost are read and shown.

    Attributes:
        words: what is counted, ``"MACs"``.
        units: lower-case unit -> how much it is, ``{"": 1, "m": 1e6}``; without ``""`` an amount needs one.
        shown: the units that amounts are shown in, the largest first.
        example: an amount, for messages.
        whole: whether amounts without a unit are whole numbers.
    """

    words: str
    units: Mapping[str, float]
    shown: Sequence[str]
    example: str
    whole: bool = False


@runtime_checkable
class Cost(Protocol):
    """A cost that is a sum over the products of widths of a node graph, as ``register_costs`` takes it."""

    amounts: Amounts

    def terms(self, graph: NodeGraph) -> Iterable[tuple[Term, float]]:
        """What shrinks with the widths (``graph.operations``, ``graph.sizes``, terms of its own), and what a
        unit of it costs."""
        ...


@dataclass(frozen=True)
class Reading:
    """Two models measured.

    Attributes:
        dense: what the dense model costs.
        small: what the smaller one costs.
        noise: standard error of ``small / dense``, as a part of it; 0 for what is measured exactly.
    """

    dense: float
    small: float
    noise: float = 0.0

    @property
    def ratio(self) -> float:
        """Part of the dense model's cost that is left."""
        return self.small / self.dense


@runtime_checkable
class MeasuredCost(Protocol):
    """A cost that only a cut model tells; an estimate says where to cut, and cuts are corrected until what is
    measured is what was asked for (`latency_budget.find_limit`)."""

    amounts: Amounts

    def estimate(self, model: nn.Module, graph: NodeGraph, example: Any) -> Any:
        """A `CostEstimate`, or what has its attributes: how the cost shrinks with the widths."""
        ...

    def measure(self, dense: nn.Module, small: nn.Module, example: Any) -> Reading:
        """Both models on one input of batch 1."""
        ...


@dataclass(frozen=True)
class CostEstimate:
    """A cost as a sum over terms of a network's widths.

    Attributes:
        pairs: what shrinks, and what a unit of it costs.
        fixed: what stays whatever leaves.
    """

    pairs: tuple[tuple[Term, float], ...]
    fixed: float = 0.0

    def terms(self, graph: NodeGraph) -> Sequence[tuple[Term, float]]:  # noqa: ARG002
        """The pairs, which are of ``graph``."""
        return self.pairs

    def value(self, graph: NodeGraph, kept: Mapping[str, int] | None = None) -> float:
        """The cost when ``kept[group]`` nodes remain in each group."""
        widths = {**graph.widths, **(kept or {})}
        return self.fixed + sum(rate * term.value(widths) for term, rate in self.pairs)


def cost_of(kind: str) -> Cost | MeasuredCost:
    """The cost of that name.

    Raises:
        TsdistillError: there is none; the message names what comes nearest.
    """
    cost: Cost | MeasuredCost = plugins.get(KIND, kind)
    return cost


def measured_cost(kind: str) -> MeasuredCost | None:
    """The cost of that name where only a cut model tells it, else ``None``."""
    cost = cost_of(kind)
    return cost if isinstance(cost, MeasuredCost) else None
