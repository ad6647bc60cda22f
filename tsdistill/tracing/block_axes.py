"""A block that may go by rows or by columns: the other way, when a cut along one has failed."""

from __future__ import annotations

from tsdistill.tracing.graph import Group, NodeGraph


def other_axes(graph: NodeGraph, group: Group, refused: dict[str, set[int]]) -> bool:
    """Refuse the axes that ``group`` goes by where its blocks have others left; is there any such block?"""
    record = graph.record
    assert record is not None
    first, any_closed = graph.starts[group.name], False
    blocks = record.trace.constraints.blocks
    for name, axis in record.axes.items():
        product = blocks[name]
        nodes = record.node_of[product.whole]
        if not ((nodes >= first) & (nodes < first + group.size)).any():
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
    axes_by_group = {}
    blocks = record.trace.constraints.blocks
    for group in graph.groups:
        first, own = graph.starts[group.name], {}
        for name, axis in record.head_size_axes.items():
            nodes = record.node_of[blocks[name].whole]
            if len(nodes) and ((nodes >= first) & (nodes < first + group.size)).all():
                own[name] = axis
        if own:
            axes_by_group[group.name] = own
    return axes_by_group
