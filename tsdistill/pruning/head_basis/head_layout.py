"""Where the queries, keys and values of each attention head lie in the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from tsdistill.statistics.unfold import has_known_rows
from tsdistill.torch_private import parameters_of
from tsdistill.tracing.block_axes import head_size_groups
from tsdistill.tracing.graph import Group, NodeGraph, Slot
from tsdistill.tracing.node_groups import build

Rows = tuple[str, np.ndarray]
"""A layer, and int64 ``[heads, size]``: for every head the rows (or columns) of its weight, in order."""


@dataclass(frozen=True, eq=False)
class Heads:
    """The heads of one attention layer.

    Attributes:
        name: the group whose nodes are these heads.
        queries: rows of what writes queries; several where heads share their keys and values.
        keys: rows of what writes keys.
        values: rows of what writes values.
        readers: columns of what reads the values, one beside every entry of ``queries``.
    """

    name: str
    queries: tuple[Rows, ...]
    keys: Rows
    values: Rows
    readers: tuple[Rows, ...]


def find_heads(model: nn.Module, graph: NodeGraph) -> list[Heads]:
    """The attention layers of ``model`` whose nodes are whole heads and could be coordinates of heads.

    Those are left out in which anything but plain layers that write (linear layers and 1x1 convolutions) and
    read holds coordinates of a head: a norm of queries, a table of positions, an embedding by rotation.
    """
    record = graph.record
    forks = head_size_groups(graph)
    if record is None or not forks:
        return []
    sized = build(
        model, record.trace, {number: axis for axes in forks.values() for number, axis in axes.items()}
    )
    layouts = (_heads(model, graph.by_name[name], sized) for name in forks)
    return [heads for heads in layouts if heads is not None]


def _heads(model: nn.Module, group: Group, sized: NodeGraph) -> Heads | None:
    writes = {(name, 0) for name in group.writers}
    reads = {(reader.param, 1): reader.module for reader in group.readers if reader.dim == 1}
    own = [
        slot for slot in group.slots if (slot.param, slot.dim) in writes or (slot.param, slot.dim) in reads
    ]
    coordinates = _sized(own, sized)
    if coordinates is None:
        return None
    written, readers = [], []
    for slot in own:
        module = slot.param.removesuffix(".weight")
        parts = _parts(slot.coords, coordinates.pop((slot.param, slot.dim)))
        if parts is None or module == slot.param or not _plain(model.get_submodule(module)):
            return None
        if (slot.param, slot.dim) in writes:
            coordinates.pop((f"{module}.bias", 0), None)
            written.append([(module, rows) for rows in parts])
        elif reads[slot.param, slot.dim] == module:
            readers += [(module, columns) for columns in parts]
        else:
            return None
    return None if coordinates else _roles(group, written, readers)


def _sized(own: list[Slot], sized: NodeGraph) -> dict[tuple[str, int], np.ndarray] | None:
    """All that the coordinates of these heads hold: ``(parameter, dimension)`` -> the nodes' coordinates."""
    sizes: dict[tuple[str, int], np.ndarray] = {}
    wanted = {(slot.param, slot.dim): slot.coords for slot in own}
    for group in sized.groups:
        slots = {(slot.param, slot.dim): slot.coords for slot in group.slots}
        if any(key in wanted and np.isin(coords, wanted[key]).any() for key, coords in slots.items()):
            if slots.keys() & sizes.keys():
                return None
            sizes.update(slots)
    return sizes if wanted.keys() <= sizes.keys() else None


def _roles(group: Group, written: list[list[Rows]], readers: list[Rows]) -> Heads | None:
    """Which rows are what, by the order in which they are written."""
    order = {name.removesuffix(".weight"): place for place, name in enumerate(group.writers)}
    written = sorted(written, key=lambda sets: order[sets[0][0]])
    counts = [len(sets) for sets in written]
    if counts == [3]:
        queries, keys, values = written[0][:1], written[0][1], written[0][2]
    elif sorted(counts) == [1, 2]:
        queries = next(sets for sets in written if len(sets) == 1)
        keys, values = next(sets for sets in written if len(sets) == 2)
    elif len(counts) == 3 and counts[1:] == [1, 1]:
        queries, keys, values = written[0], written[1][0], written[2][0]
    else:
        return None
    if len(readers) != len(queries):
        return None
    return Heads(group.name, tuple(queries), keys, values, tuple(readers))


def _parts(heads: np.ndarray, nodes: np.ndarray) -> list[np.ndarray] | None:
    """The coordinates of every head in the order of the nodes, one array ``[heads, size]`` for each time that
    a head occurs; of coordinates ``[heads, ...]`` and ``[size, ...]``."""
    size = len(nodes)
    place = np.full(max(nodes.max(), heads.max()) + 1, -1)
    place[nodes] = np.arange(size)[:, None]
    times = heads.shape[1] // size
    places = place[heads]
    if times * size != heads.shape[1] or (places < 0).any():
        return None
    order = np.argsort(places, axis=1, kind="stable")
    if (np.take_along_axis(places, order, 1) != np.repeat(np.arange(size), times)).any():
        return None
    by_node = np.take_along_axis(heads, order, 1).reshape(len(heads), size, times)
    return [by_node[:, :, time] for time in range(times)]


def _plain(module: nn.Module) -> bool:
    weight = parameters_of(module).get("weight")
    if weight is None or not has_known_rows(module) or getattr(module, "groups", 1) != 1:
        return False
    return weight[0].numel() == weight.shape[1] and weight.is_floating_point()
