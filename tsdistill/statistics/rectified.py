"""Groups whose activation passes a rectifier, so that a node's gate can be read off the sign of its
activation."""

from __future__ import annotations

from itertools import chain

import numpy as np

from tsdistill.tracing.graph import NodeGraph

_RECTIFIERS = ("relu", "relu_", "hardtanh", "hardtanh_", "clamp_min", "clamp_min_", "clamp", "threshold")
_AVERAGES = ("mean", "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d")


def rectified(graph: NodeGraph) -> set[str]:
    """Names of the groups whose nodes have gates that their readers can see.

    A rectifier's operator has met the group's nodes; and the activation is not averaged over positions before
    its only reader sees it, where a node would be above 0 as soon as its gate is on somewhere.
    """
    if graph.record is None:
        return set()
    rectifies, averages = set[int](), set[int]()
    first = np.cumsum([0, *(group.size for group in graph.groups)])
    for step in chain.from_iterable(trace.steps for trace in graph.record.trace.every):
        name = step.op.split(".")[1] if step.op.count(".") else step.op
        if name in _RECTIFIERS or name in _AVERAGES:
            met = averages if name in _AVERAGES else rectifies
            for labels in step.touched:
                nodes = np.unique(graph.record.node_of[labels])
                met.update((np.searchsorted(first, nodes[nodes >= 0], side="right") - 1).tolist())
    return {
        group.name
        for index, group in enumerate(graph.groups)
        if index in rectifies and (index not in averages or len(group.readers) > 1)
    }
