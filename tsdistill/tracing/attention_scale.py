"""Attention's 1/sqrt(d) follows the size d of a head: what a cut of that size changes about it goes into the
weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from tsdistill.tracing.graph import Group, NodeGraph
from tsdistill.tracing.surgery import removed_coordinates
from tsdistill.tracing.trace_record import Record, Step

ActivationGains = dict[tuple[str, int], np.ndarray]
"""``(weight, dimension)`` -> float64, a coordinate each: how many times its old value an activation is."""


def fold_scales(
    small: nn.Module,
    graph: NodeGraph,
    removed: Mapping[str, np.ndarray],
    scaled: Sequence[tuple[Step, float]],
) -> ActivationGains:
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
    record = graph.traced
    if not scaled:
        return {}
    shrunk = _shrunk_classes(record, graph, removed)
    products = {place: members & shrunk for place, members in _products(record).items()}
    times: dict[frozenset[int], float] = defaultdict(lambda: 1.0)
    parts = _connected_parts(products.values())
    for step, ratio in scaled:
        scaled_classes = _scaled_classes(record, step, products)
        for part in parts:
            if part & scaled_classes:
                times[part] *= ratio
    gains: ActivationGains = {}
    gone = removed_coordinates(graph, removed)
    parameters = dict(small.named_parameters(remove_duplicate=False))
    for part, ratio in times.items():
        calls = sum(bool(part & members) for members in products.values())
        for group, slots in _slots(graph, record, part):
            places = _places(parameters, group, slots)
            if places is not None:
                _scale(parameters, slots, ratio ** (-0.5 / calls), places, gone, gains)
    return gains


def multiplied_slots(graph: NodeGraph) -> Iterator[tuple[Group, dict[tuple[str, int], np.ndarray]]]:
    """Groups that hold coordinates of queries and keys beside others, because code takes the size of a head
    from another width: ``(parameter, dimension)`` -> int64, where these lie; once for every attention."""
    record = graph.record
    if record is not None and record.trace.constraints.couplings:
        for part in _connected_parts(_products(record).values()):
            yield from _slots(graph, record, part)


def _shrunk_classes(record: Record, graph: NodeGraph, removed: Mapping[str, np.ndarray]) -> set[int]:
    """The classes of `Record.untied` in the groups that lose nodes."""
    lost = np.repeat([name in removed for name in graph.widths], [*graph.widths.values()])
    held = record.node_of >= 0
    return set(np.unique(record.untied[held][lost[record.node_of[held]]]).tolist()) - {-1}


def _connected_parts(products: Iterable[set[int]]) -> list[frozenset[int]]:
    """The classes that products sum over, those of products that share any in one part."""
    parts: list[set[int]] = []
    for members in products:
        touching = [part for part in parts if part & members]
        parts = [part for part in parts if not part & members]
        if members:
            parts.append(members.union(*touching))
    return [frozenset(part) for part in parts]


def _products(record: Record) -> dict[int, set[int]]:
    """Place of a step that multiplies two activations -> the classes (`Record.untied`) over which it sums."""
    by_place = {}
    for place, step in enumerate(record.trace.steps):
        if step.pairs:
            members = {int(item) for _, _, labels in step.contracted for item in record.untied[labels]}
            if members - {-1}:
                by_place[place] = members - {-1}
    return by_place


def _scaled_classes(record: Record, step: Step, products: Mapping[int, set[int]]) -> set[int]:
    """The coordinates of queries and keys that a step scales: those that it touches, or those that were
    summed over last in its module."""
    touched = {int(item) for labels in step.touched for item in np.unique(record.untied[labels])} - {-1}
    summed = set().union(*products.values())
    if touched & summed:
        return touched & summed
    place = record.places[id(step)]
    steps = record.trace.steps
    before = [p for p in products if p < place and steps[p].module == step.module]
    return products[max(before)] if before else set()


def _slots(
    graph: NodeGraph, record: Record, part: frozenset[int]
) -> Iterator[tuple[Group, dict[tuple[str, int], np.ndarray]]]:
    """Every group that holds classes of ``part``, and where those lie: ``(parameter, dimension)`` -> int64,
    coordinates."""
    by_place = record.trace.constraints.by_place
    wanted = np.array(sorted(part))
    for group in graph.groups:
        own_slots = {}
        for slot in group.slots:
            coords = slot.coords.reshape(-1)
            own = coords[np.isin(record.untied[by_place[slot.param, slot.dim].start + coords], wanted)]
            if len(own):
                own_slots[slot.param, slot.dim] = own
        if own_slots:
            yield group, own_slots


def _places(
    parameters: Collection[str], group: Group, slots: Collection[tuple[str, int]]
) -> dict[tuple[str, int], bool] | None:
    """``(parameter, dimension)`` among ``slots`` -> whether it writes (or else reads) the nodes; None where a
    node lies in any other parameter. What is no parameter (the frequencies of a rotation) multiplies and is
    left alone."""
    reads = {(reader.param, reader.dim) for reader in group.readers}
    owners = {name.rpartition(".")[0] for name in group.writers}
    writes = {}
    for param, dim in slots:
        owner, _, leaf = param.rpartition(".")
        if (param, dim) in reads:
            writes[param, dim] = False
        elif param in group.writers or (owner in owners and "bias" in leaf):
            writes[param, dim] = True
        elif param in parameters:
            return None
    return writes


def _scale(
    parameters: Mapping[str, nn.Parameter],
    slots: Mapping[tuple[str, int], np.ndarray],
    gain: float,
    places: Mapping[tuple[str, int], bool],
    gone: Mapping[tuple[str, int], np.ndarray],
    gains: ActivationGains,
) -> None:
    """Multiply what writes the nodes that stay, divide what reads them, and note what the gain is where."""
    for key, coords in slots.items():
        if key not in places:
            continue
        name, dim = key
        parameter = parameters[name]
        before = np.ones(parameter.shape[dim] + len(np.unique(gone[key])))
        before[coords] = gain
        factors = np.delete(before, gone[key])
        shape = [1] * parameter.ndim
        shape[dim] = -1
        along = torch.from_numpy(factors).to(parameter.device, parameter.dtype).reshape(shape)
        with torch.no_grad():
            parameter.copy_(parameter * along if places[key] else parameter / along)
        gains[key] = gains.get(key, np.ones(len(factors))) * factors
