"""What a network still costs while nodes leave: MACs, parameters, nodes or seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from tsdistill.errors import TsdistillError
from tsdistill.pruning.selection.cost import Cost, cost_of
from tsdistill.tracing.graph import NodeGraph, Term


class CostTerms(Protocol):
    """What a forward pass costs on a device, as a sum over terms of a network's widths."""

    @property
    def fixed(self) -> float:
        """Seconds that stay whatever leaves."""
        ...

    def terms(self, graph: NodeGraph) -> Sequence[tuple[Term, float]]:
        """What shrinks, and seconds a unit of it."""
        ...


class CostModel:
    """A weighted sum of terms, kept up to date while nodes leave.

    Attributes:
        widths: group -> nodes at the start.
        kept: group -> nodes that are still there.
        total: what they cost.
    """

    def __init__(
        self, widths: Mapping[str, int], terms: Iterable[tuple[Term, float]], fixed: float = 0
    ) -> None:
        """Start from ``widths`` (group -> nodes); each term has a weight, ``fixed`` is added to their sum."""
        self.widths: dict[str, int] = dict(widths)
        self.kept: dict[str, int] = dict(widths)
        self._terms: dict[str, dict[int, tuple[Term, float]]] = {name: {} for name in self.kept}
        self.total: float = fixed
        for number, (term, weight) in enumerate(terms):
            self.total += weight * term.value(self.kept)
            for name in {name for _, parts in term.factors for name, _ in parts}:
                self._terms[name][number] = (term, weight)

    @property
    def gone(self) -> dict[str, int]:
        """Group -> nodes that have left."""
        return {name: size - self.kept[name] for name, size in self.widths.items()}

    def saving(self, leaving: Mapping[str, int]) -> float:
        """What goes when ``leaving[group]`` more nodes leave (below 0: what comes when they come back)."""
        touched = {
            number: term
            for name, count in leaving.items()
            if count
            for number, term in self._terms[name].items()
        }
        kept = self.kept | {name: self.kept[name] - count for name, count in leaving.items()}
        return sum(weight * (term.value(self.kept) - term.value(kept)) for term, weight in touched.values())

    def remove(self, leaving: Mapping[str, int]) -> None:
        """Let nodes leave (or come back, below 0)."""
        self.total -= self.saving(leaving)
        for name, count in leaving.items():
            self.kept[name] -= count


def cost_model_of(graph: NodeGraph, kind: str, price: CostTerms | None = None) -> CostModel:
    """A cost model of ``graph``, whole.

    Args:
        graph: the network.
        kind: name of a cost.
        price: what operations cost, needed for costs that are measured.

    Raises:
        TsdistillError: a measured cost without a price, or with one that was made for another network.
    """
    cost = cost_of(kind)
    if isinstance(cost, Cost):
        return CostModel(graph.widths, cost.terms(graph))
    if price is None:
        raise TsdistillError(
            f"a budget of {cost.amounts.words} needs to know what operations cost here; give price= (prune "
            "measures it)"
        )
    return CostModel(graph.widths, price.terms(graph), price.fixed)


def savings_per_node(cost_model: CostModel) -> Mapping[str, float]:
    """What removing a single node of each whole group saves."""
    return {name: cost_model.saving({name: 1}) for name in cost_model.kept}
