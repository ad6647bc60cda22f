"""Graphs, orders and costs for the tests of selection."""

from __future__ import annotations

import itertools

import numpy as np

from tsdistill.pruning.selection.pruning_order import PruningOrder
from tsdistill.tracing import Group, NodeGraph, Term


def chain_graph(**sizes: int) -> NodeGraph:
    """A chain: every operation is a product of neighbouring widths."""
    groups = tuple(Group(name, size, (), (), ()) for name, size in sizes.items())
    names = list(sizes)
    terms = [Term("in", 10, ((0, ((names[0], 1),)),))]
    terms += [Term(f"{a}{b}", 3, ((0, ((a, 1),)), (0, ((b, 1),)))) for a, b in itertools.pairwise(names)]
    return NodeGraph(groups, tuple(terms), tuple(terms))


def elimination(name: str, costs: list[float]) -> PruningOrder:
    steps = len(costs)
    return PruningOrder(
        (name,), np.zeros(steps, dtype=int), np.arange(steps), np.array(costs), np.zeros(steps, dtype=bool)
    )


class CostTerms:
    """Seconds by operation; the deeper, the dearer."""

    fixed = 0.25

    def terms(self, graph: NodeGraph) -> list[tuple[Term, float]]:
        return [(term, 1e-6 * (place + 1)) for place, term in enumerate(graph.operations)]
