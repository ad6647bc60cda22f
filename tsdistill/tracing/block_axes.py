"""A block that may go by rows or by columns: the other way, when a cut along one has failed."""

from __future__ import annotations

from tsdistill.tracing.graph import Group, NodeGraph


def other_axes(graph: NodeGraph, group: Group, refused: dict[str, set[int]]) -> bool:
    """Refuse the axes that ``group`` goes by where its blocks have others left; is there any such block?"""
    record, any_closed = graph.traced, False
    blocks = record.trace.constraints.blocks
    for name, axis in record.axes.items():
        product = blocks[name]
        if group.name not in graph.groups_of(record.node_of[product.whole]):
            continue
        closed = refused.setdefault(name, set())
        closed.add(axis)
        any_closed = any_closed or len(closed) < len(product.factors)
    return any_closed


def head_size_groups(graph: NodeGraph) -> dict[str, dict[str, int]]:
    """Groups whose nodes are whole heads -> the blocks that would have to go by the size of a head instead.

    Returns:
        group -> name of a block -> that axis, as `tracing.trace` takes it.
    """
    record = graph.record
    if record is None:
        return {}
    axes: dict[str, dict[str, int]] = {name: {} for name in graph.widths}
    blocks = record.trace.constraints.blocks
    for name, axis in record.head_size_axes.items():
        nodes = record.node_of[blocks[name].whole]
        groups = graph.groups_of(nodes)
        if len(groups) == 1 and (nodes >= 0).all():
            axes[groups[0]][name] = axis
    return {name: own for name, own in axes.items() if own}
