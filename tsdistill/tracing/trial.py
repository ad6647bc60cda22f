"""What a trial cut removes: about half of every group, so that no size comes out right by chance."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from tsdistill.tracing.graph import NodeGraph

_LEAST, _MOST = 0.35, 0.65
_SMALL = 16


def trial_cut(graph: NodeGraph) -> dict[str, np.ndarray]:
    """Per group the nodes that leave on trial, another part for every group.

    Of groups of the same few nodes (a stream whose nodes are whole heads, and the heads of its blocks) the
    one with most slots loses half, and every other one another number: widths that code takes from one
    another then come apart in every block at once.
    """
    widest: dict[int, str] = {}
    for group in sorted(graph.groups, key=lambda group: len(group.slots)):
        widest[group.size] = group.name
    turns: dict[int, int] = defaultdict(int)
    trial = {}
    for index, group in enumerate(graph.groups):
        rng = np.random.default_rng(index)
        if group.size >= _SMALL:
            count = round(group.size * rng.uniform(_LEAST, _MOST))
        else:
            count = group.size // 2
            if widest[group.size] != group.name:
                turns[group.size] += 1
                count += 1 if turns[group.size] % 2 or count < 2 else -1
        trial[group.name] = np.sort(rng.permutation(group.size)[: min(max(count, 1), group.size - 1)])
    return trial
