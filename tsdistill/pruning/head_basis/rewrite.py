"""``rewrite_heads``: the same function, with the heads of attention in bases of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.pruning.head_basis.bases import HeadBasis, find_head_bases
from tsdistill.pruning.head_basis.head_layout import Heads, find_heads
from tsdistill.runtime.forward import forward, head
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import tensors
from tsdistill.statistics.outer_products import QueryReaders
from tsdistill.tracing import trace
from tsdistill.tracing.block_axes import head_size_groups
from tsdistill.tracing.graph import NodeGraph
from tsdistill.tracing.model_copy import deepcopy_model
from tsdistill.tracing.output_tolerance import difference
from tsdistill.tracing.trace import further_inputs

_EQUAL = 1e-3
"""How far outputs may be apart, of the largest, after the weights are rounded."""


@dataclass(frozen=True, eq=False)
class RewrittenHeads:
    """A model with heads in bases of their own.

    Attributes:
        model: a copy that computes the same.
        graph: its node graph, in which the coordinates of these heads are nodes.
        queries: group of such coordinates -> where it is multiplied with another.
    """

    model: nn.Module
    graph: NodeGraph
    queries: Mapping[str, QueryReaders]


def rewrite_heads(
    model: nn.Module,
    graph: NodeGraph,
    example: Any,
    batches: Iterable[tuple[Any, Any]],
    names: Collection[str] | None = None,
) -> RewrittenHeads | None:
    """Write the heads of attention in bases in which few coordinates do nearly all.

    A head uses its queries and keys through their products alone, and its values through the layer that reads
    them: any invertible T, R leave the function as it is when queries become ``T q``, keys ``T^-T k``, values
    ``R v`` and the reading weight ``P R^-1``. With the right ones (`bases.balanced`) the last coordinates of
    all heads can go at next to no cost, where a whole head could not.

    Args:
        model: it is left as it was.
        graph: its node graph, whose nodes are whole heads.
        example: one input.
        batches: yields ``(x, y)``.
        names: of the groups of heads that are meant; all by default.

    Returns:
        ``None`` where no attention layer can be written so.
    """
    layers = [heads for heads in find_heads(model, graph) if names is None or heads.name in names]
    if not layers:
        return None
    bases = find_head_bases(model, layers, batches)
    x = next(iter(batches))[0]
    layers = _equal(model, layers, bases, x)
    if not layers:
        return None
    written = _written(model, layers, bases)
    sized = traced_like(written, example, graph, [heads.name for heads in layers])
    queries = {}
    for heads in layers:
        heads_by_layer = _queries(sized, heads)
        if heads_by_layer is not None:
            queries[heads_by_layer[0]] = heads_by_layer[1]
    return RewrittenHeads(written, sized, queries) if queries else None


def traced_like(model: nn.Module, example: Any, graph: NodeGraph, names: Collection[str]) -> NodeGraph:
    """The node graph of a model in which the coordinates of heads are nodes, in the groups ``names`` of a
    graph whose nodes are whole heads."""
    forks = head_size_groups(graph)
    axes = {number: axis for name in names for number, axis in forks.get(name, {}).items()}
    return trace(model, example, axes=axes, others=further_inputs(graph))


def _equal(model: nn.Module, layers: list[Heads], bases: Mapping[str, HeadBasis], x: Any) -> list[Heads]:
    """Those layers that can be written in their bases without a change of the output."""
    x = head(x, 4)
    wanted = _outputs(model, x)

    def right(some: list[Heads]) -> bool:
        return difference(_outputs(_written(model, some, bases), x), wanted, _EQUAL) is None

    if right(layers):
        return layers
    alone = [heads for heads in layers if right([heads])]
    return alone if alone and right(alone) else []


def _outputs(model: nn.Module, x: Any) -> list[Tensor]:
    with evaluation_mode(model), torch.no_grad():
        return list(tensors(forward(model, x)))


def _written(model: nn.Module, layers: list[Heads], bases: Mapping[str, HeadBasis]) -> nn.Module:
    """A copy of the model with these layers in their bases."""
    result = deepcopy_model(model)
    with torch.no_grad():
        for heads in layers:
            own = bases[heads.name]
            for rows in heads.queries:
                _turn(result.get_submodule(rows[0]), rows[1], own.queries)
            _turn(result.get_submodule(heads.keys[0]), heads.keys[1], own.keys)
            _turn(result.get_submodule(heads.values[0]), heads.values[1], own.values)
            for name, columns in heads.readers:
                weight = result.get_submodule(name).weight
                assert isinstance(weight, Tensor)
                wide = weight.double().cpu().flatten(1)
                for each, matrix in zip(columns, own.readers, strict=True):
                    wide[:, each] = wide[:, each] @ matrix
                weight.copy_(wide.reshape(weight.shape))
    return result


def _turn(module: nn.Module, rows: np.ndarray, matrices: Tensor) -> None:
    """Multiply the rows of every head, and their biases, by its matrix."""
    for value in (module.weight, module.bias):
        if isinstance(value, Tensor):
            wide = value.double().cpu().reshape(len(value), -1)
            for each, matrix in zip(rows, matrices, strict=True):
                wide[each] = matrix @ wide[each]
            value.copy_(wide.reshape(value.shape))


def _queries(sized: NodeGraph, heads: Heads) -> tuple[str, QueryReaders] | None:
    """The group of the coordinates of heads, and where its queries lie; ``None`` where heads go whole."""
    size, module = heads.keys[1].shape[1], heads.queries[0][0]
    rows = np.concatenate([own.reshape(-1) for name, own in heads.queries if name == module])
    for group in sized.groups:
        if group.size != size:
            continue
        slot = next((s for s in group.slots if (s.param, s.dim) == (f"{module}.weight", 0)), None)
        if slot is None:
            continue
        columns = np.flatnonzero(np.isin(slot.coords[0], rows))
        if len(columns) and np.isin(slot.coords[:, columns], rows).all():
            return group.name, QueryReaders(module, columns)
    return None
