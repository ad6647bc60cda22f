"""Whole heads or the size of heads: which of the two costs an attention layer less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import nn

from tsdistill.alignment.report import AlignmentReport, Statistics
from tsdistill.pruning.selection.backward_elimination import eliminate
from tsdistill.pruning.selection.obs import NodePenalty, OBSState
from tsdistill.pruning.selection.pruning_order import own_states
from tsdistill.statistics.sites import find_sites
from tsdistill.tracing.graph import NodeGraph


def cheaper_whole(report: AlignmentReport, model: nn.Module, graph: NodeGraph) -> set[str]:
    """Attention layers that lose less with half of their heads gone than with as much of every head.

    Args:
        report: of a model in which coordinates of heads are nodes.
        model: that model, or one that computes the same.
        graph: its node graph with whole heads as nodes.
    """
    found = set()
    for name, products in report.statistics.products.items():
        group = graph.by_name.get(name)
        if group is None or group.size < 2:
            continue
        part = group.size // 2 / group.size
        sites = find_sites(model, graph, {name})
        whole = _cost(graph, replace(report.statistics, sites=sites), name, np.zeros(group.size), part)
        sized = _cost(report.graph, report.statistics, name, products, part)
        if whole < sized:
            found.add(name)
    return found


def _cost(graph: NodeGraph, statistics: Statistics, name: str, penalty: np.ndarray, part: float) -> float:
    """What it costs when ``part`` of a group's nodes leave, the cheapest first."""
    size = graph.by_name[name].size
    own = own_states(graph, statistics, [name], np.zeros(1, dtype=np.int64), True)
    states: list[OBSState | NodePenalty] = [*own, NodePenalty(penalty)]
    floor = np.array([size - round(size * part)])
    owner, free = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=bool)
    return float(eliminate(states, owner, floor, np.ones(size), free)[1].sum())
