"""A block that may go by rows or by columns: the other way, when a cut along one has failed."""

from __future__ import annotations

from tsdistill.tracing.graph import Group, NodeGraph


def other_axes(graph: NodeGraph, group: Group, refused: dict[int, set[int]]) -> bool:
    """Refuse the axes that ``group`` goes by where its blocks have others left; is there any such block?"""
    record = graph.record
    assert record is not None
    first, found = graph.starts[group.name], False
    for number, axis in record.axes.items():
        product = record.trace.ledger.products[number]
        nodes = record.node_of[product.whole]
        if not ((nodes >= first) & (nodes < first + group.size)).any():
            continue
        closed = refused.setdefault(number, set())
        closed.add(axis)
        found = found or len(closed) < len(product.factors)
    return found


def fork_groups(graph: NodeGraph) -> dict[str, dict[int, int]]:
    """Groups whose nodes are whole heads -> the blocks that would have to go by the size of a head instead.

    Returns:
        group -> number of a block -> that axis, as `tracing.trace` takes it.
    """
    record = graph.record
    if record is None:
        return {}
    found = {}
    for group in graph.groups:
        first, own = graph.starts[group.name], {}
        for number, axis in record.forks.items():
            nodes = record.node_of[record.trace.ledger.products[number].whole]
            if len(nodes) and ((nodes >= first) & (nodes < first + group.size)).all():
                own[number] = axis
        if own:
            found[group.name] = own
    return found
