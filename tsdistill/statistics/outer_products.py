"""Nodes that are multiplied with one another, as queries and keys are: how the output depends on their
products."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from tsdistill.runtime.hooks import ModuleCall, ModuleHooks, branched
from tsdistill.statistics.block_sums import BlockMeans, BlockSums
from tsdistill.statistics.sample_blocks import channels_first, flat, widen
from tsdistill.statistics.unfold import channel_dim, has_known_rows
from tsdistill.tracing.attention_scale import multiplied_slots
from tsdistill.tracing.graph import NodeGraph


@dataclass(frozen=True, eq=False)
class QueryReaders:
    """One side of the products of a group's nodes.

    Attributes:
        module: the layer that writes them.
        columns: which of a node's coordinates along that layer's outputs they are, as columns of the slot's
            ``coords``; a cut of nodes leaves these as they are.
    """

    module: str
    columns: np.ndarray


def fitting_queries(graph: NodeGraph, queries: Mapping[str, QueryReaders]) -> dict[str, QueryReaders]:
    """Those of ``queries`` whose columns the groups of ``graph`` have.

    In a model that was cut so far that its heads have a single coordinate, the same group holds whole heads.

    Args:
        graph: the node graph of the model as it is now.
        queries: group -> where its nodes are multiplied, of the model before it was cut.
    """
    fitting = {}
    for name, item in queries.items():
        slots = graph.by_name[name].slots if name in graph.by_name else ()
        slot = next((s for s in slots if (s.param, s.dim) == (f"{item.module}.weight", 0)), None)
        if slot is not None and int(item.columns.max()) < slot.coords.shape[1]:
            fitting[name] = item
    return fitting


class OuterProducts:
    """E (rᵀ ∂f/∂q_k · q_k)² with r ~ N(0, I), summed over positions and heads, of every node k.

    That is, to first order, how much the squared output changes when the products q_k k_k of a node leave the
    sums that they are part of: the derivative by q_k times q_k is the derivative by a factor on the product.
    It is added to E[β] Var of what a layer reads (`SiteSensitivity`) and has the same units.

    Args:
        model: the model, at rest; backward passes run inside the block.
        graph: its node graph.
        queries: group -> where its nodes are multiplied (see `fitting_queries`).

    `begin` says which samples run inside the next block.
    """

    def __init__(self, model: nn.Module, graph: NodeGraph, queries: Mapping[str, QueryReaders]) -> None:
        self._graph = graph
        self._queries = [*queries.items(), *_tied_queries(model, graph)]
        modules = {item.module: model.get_submodule(item.module) for _, item in self._queries}
        self._hooks = ModuleHooks(modules, after=self._tap)
        self._sums = BlockSums()

    def begin(self, first: int, count: int) -> None:
        """The samples ``first`` to ``first + count`` run now."""
        self._sums.begin(first, count)

    def __enter__(self) -> None:
        self._hooks.__enter__()

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def _tap(self, call: ModuleCall) -> Tensor:
        name, values, dim = call.name, call.output.detach().clone(), channel_dim(call.module)

        def collect(gradient: Tensor) -> None:
            block = widen(flat(channels_first(values * gradient, dim)))
            self._sums.add(name, block.square().sum(2))

        return branched(call.output, collect)

    def finish(self) -> BlockMeans:
        """Group -> figures of its nodes by block of samples, of all processes together."""
        blocks = self._sums.finish()
        result: dict[str, np.ndarray] = {}
        for name, item in self._queries:
            slots = self._graph.by_name[name].slots
            slot = next(s for s in slots if (s.param, s.dim) == (f"{item.module}.weight", 0))
            if item.module in blocks:
                by_row = blocks.means[item.module]
                result[name] = result.get(name, 0) + by_row[:, slot.coords[:, item.columns]].sum(2)
        return BlockMeans(blocks.samples, result)


def _tied_queries(model: nn.Module, graph: NodeGraph) -> Iterator[tuple[str, QueryReaders]]:
    """The queries among the nodes of groups that go with a stream as well: what writes first of what is
    multiplied, of one layer that writes queries, keys and values the first third."""
    for group, slots in multiplied_slots(graph):
        writers = [name for name in group.writers if (name, 0) in slots]
        if not writers or not has_known_rows(model.get_submodule(writers[0].removesuffix(".weight"))):
            continue
        slot = next(slot for slot in group.slots if (slot.param, slot.dim) == (writers[0], 0))
        columns = np.flatnonzero(np.isin(slot.coords, slots[writers[0], 0]).all(0))
        parts = 3 if len(writers) == 1 else 1
        if len(columns) % parts == 0:
            yield (
                group.name,
                QueryReaders(writers[0].removesuffix(".weight"), columns[: len(columns) // parts]),
            )
