"""Attention's 1/sqrt(d) follows the size d of a head: what a cut of that size changes about it goes into the
weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from tsdistill.tracing.graph import Group, NodeGraph
from tsdistill.tracing.record import Record, Step
from tsdistill.tracing.surgery import leaving_coordinates

Gains = dict[tuple[str, int], np.ndarray]
"""``(weight, dimension)`` -> float64, a coordinate each: how many times its old value an activation is."""


def fold(
    small: nn.Module,
    graph: NodeGraph,
    removed: Mapping[str, np.ndarray],
    scaled: Sequence[tuple[Step, float]],
) -> Gains:
    """Make up for scales that follow the size of a head: in place, in the weights of the cut ``small``.

    Logits ``s q k`` of a head that goes from d to d' coordinates would be scaled by s' = s sqrt(d/d').
    Queries and keys are therefore written with sqrt(s/s') times their weight. So are values, which may lie in
    the same weight; what reads them divides by that. Where a norm or another parameter holds these
    coordinates, too, nothing is made up, and the comparison with the whole model says whether that can be.

    Args:
        small: the cut model.
        graph: of the whole one.
        removed: the nodes that have gone, by group.
        scaled: steps of the trace that multiply by another number now, and how many times the old one it is.

    Returns:
        how many times as large activations have become.
    """
    record = graph.record
    assert record is not None
    if not scaled:
        return {}
    names = np.repeat([group.name for group in graph.groups], [group.size for group in graph.groups])
    products = {
        place: {str(name) for name in names[sorted(nodes)]} & removed.keys()
        for place, nodes in _products(record).items()
    }
    times: dict[str, float] = defaultdict(lambda: 1.0)
    for step, ratio in scaled:
        for name in _meant(record, step, names, products):
            times[name] *= ratio
    gains: Gains = {}
    gone = leaving_coordinates(graph, removed)
    parameters = dict(small.named_parameters(remove_duplicate=False))
    for name, ratio in times.items():
        calls = sum(name in groups for groups in products.values())
        group = graph.by_name[name]
        places = _places(parameters, group)
        if places is not None:
            _scale(parameters, group, ratio ** (-0.5 / calls), places, gone, gains)
    return gains


def _products(record: Record) -> dict[int, set[int]]:
    """Place of a step that multiplies two activations -> the nodes over which it sums."""
    found = {}
    for place, step in enumerate(record.trace.steps):
        if step.pairs:
            nodes = {int(node) for _, _, labels in step.contracted for node in record.node_of[labels]}
            if nodes - {-1}:
                found[place] = nodes - {-1}
    return found


def _meant(record: Record, step: Step, names: np.ndarray, products: Mapping[int, set[str]]) -> set[str]:
    """The groups of queries and keys that a step scales: those that it touches, or those that were summed
    over last in its module."""
    nodes = [record.node_of[labels] for labels in step.touched]
    touched = {str(name) for each in nodes for name in names[np.unique(each[each >= 0])]}
    summed = set().union(*products.values())
    if touched & summed:
        return touched & summed
    place = record.places[id(step)]
    steps = record.trace.steps
    before = [p for p in products if p < place and steps[p].module == step.module]
    return products[max(before)] if before else set()


def _places(parameters: Collection[str], group: Group) -> dict[tuple[str, int], bool] | None:
    """``(parameter, dimension)`` -> whether it writes (or else reads) the nodes; None where a node lies in
    any other parameter. What is no parameter (the frequencies of a rotation) multiplies and is left alone."""
    reads = {(reader.param, reader.dim) for reader in group.readers}
    owners = {name.rpartition(".")[0] for name in group.writers}
    found = {}
    for slot in group.slots:
        owner, _, leaf = slot.param.rpartition(".")
        if (slot.param, slot.dim) in reads:
            found[slot.param, slot.dim] = False
        elif slot.param in group.writers or (owner in owners and "bias" in leaf):
            found[slot.param, slot.dim] = True
        elif slot.param in parameters:
            return None
    return found


def _scale(
    parameters: Mapping[str, nn.Parameter],
    group: Group,
    gain: float,
    places: Mapping[tuple[str, int], bool],
    gone: Mapping[tuple[str, int], np.ndarray],
    gains: Gains,
) -> None:
    """Multiply what writes the nodes that stay, divide what reads them, and note what the gain is where."""
    for slot in group.slots:
        key = slot.param, slot.dim
        if key not in places:
            continue
        parameter = parameters[slot.param]
        before = np.ones(parameter.shape[slot.dim] + len(np.unique(gone[key])))
        before[slot.coords.reshape(-1)] = gain
        factors = np.delete(before, gone[key])
        shape = [1] * parameter.ndim
        shape[slot.dim] = -1
        along = torch.from_numpy(factors).to(parameter.device, parameter.dtype).reshape(shape)
        with torch.no_grad():
            parameter.copy_(parameter * along if places[key] else parameter / along)
        gains[key] = gains.get(key, np.ones(len(factors))) * factors
