"""From classes of labels to a node graph: groups with their slots, writers, readers and costs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from tsdistill.models.layers.call_kinds import ComputedCall
from tsdistill.models.layers.effective_weights import effective_weight, layer_of, parameters_behind
from tsdistill.models.layers.layer_kind import input_width, kind_of
from tsdistill.models.plain_tensors import named_constants
from tsdistill.torch_private import named_modules_of
from tsdistill.tracing.graph import Frozen, Group, NodeGraph, Reader, Slot, Term
from tsdistill.tracing.label_classes import Classes, resolve
from tsdistill.tracing.labels import Constraints, DimLabels, OuterProductBlock
from tsdistill.tracing.trace_record import ALIGNED, Contraction, Record, Trace


def build(
    model: nn.Module,
    trace: Trace,
    axes: Mapping[str, int] | None = None,
    refused: Mapping[str, Collection[int]] | None = None,
) -> NodeGraph:
    """The node graph of a trace of ``model``.

    Args:
        model: the traced model.
        trace: what its labelled forward wrote down.
        axes: those of its ``Record`` at another width.
        refused: name of a block -> the axes along which a cut of it has failed.
    """
    classes = resolve(trace.constraints, axes, refused)
    owners = _Owners(trace.constraints.parameter_dims)
    multiplied = _multiplied(trace, classes, axes or {})
    node_sets = list(_nodes(trace, classes, owners, multiplied))
    group_of = np.full(len(classes.fixed), -1)
    rank_of = np.zeros(len(classes.fixed), dtype=np.int64)
    for index, (members, _) in enumerate(node_sets):
        group_of[members] = index
        rank_of[members] = np.arange(len(members))
    fans = [_Fan() for _ in node_sets]
    modules = dict(named_modules_of(model))
    for contraction in _contractions(trace):
        _add_contraction(modules, contraction, classes, owners, group_of, rank_of, node_sets, fans)
    for index in np.unique(group_of[multiplied]):
        if index >= 0:
            fans[index].unnamed = True
    aligned = {
        int(i)
        for each in trace.every
        for labels in each.aligned
        for i in np.unique(group_of[classes.of[labels]])
    }
    named: dict[str, int] = {}
    groups: list[Group] = []
    node_of_class = np.full(len(classes.fixed), -1)
    running = dict.fromkeys(contraction.module for contraction in _contractions(trace))
    places = {module: place for place, module in enumerate(running)}

    def position(index: int) -> tuple[int, int]:
        return places.get(next(iter(fans[index].writers)).rpartition(".")[0], len(places)), index

    order = sorted((index for index, fan in enumerate(fans) if fan.complete), key=position)
    count = 0
    for index in order:
        (members, slots), fan = node_sets[index], fans[index]
        name = layer_of(next(iter(fan.writers)))
        named[name] = named.get(name, 0) + 1
        name = name if named[name] == 1 else f"{name}#{named[name]}"
        step = ALIGNED if index in aligned else 1
        groups.append(Group(name, len(members), slots, tuple(fan.writers), tuple(fan.readers.values()), step))
        node_of_class[members] = np.arange(count, count + len(members))
        count += len(members)
    node_of = node_of_class[classes.of]
    widths = _Widths(groups, node_of)
    return NodeGraph(
        tuple(groups),
        operations=tuple(
            Term(cost.name, cost.coefficient, tuple(widths.factor(n, f) for n, f in cost.factors))
            for cost in trace.costs
        ),
        sizes=tuple(widths.parameters(model, trace.constraints)),
        frozen=tuple(_frozen(trace, classes, owners, node_of, {name for name, _ in named_constants(model)})),
        record=Record(trace, node_of, classes.axes, classes.head_size_axes),
    )


def _contractions(trace: Trace) -> list[Contraction]:
    """Those of all runs, in order."""
    return [contraction for each in trace.every for contraction in each.contractions]


class _Owners:
    """Finds the parameter, dimension and coordinate that a label was laid along."""

    def __init__(self, parameter_dims: list[DimLabels]) -> None:
        self.parameter_dims = parameter_dims
        self.starts = np.array([dim_labels.start for dim_labels in parameter_dims], dtype=np.int64)
        self.end = parameter_dims[-1].start + parameter_dims[-1].size if parameter_dims else 0

    def of(self, labels: np.ndarray | None) -> DimLabels | None:
        """The parameter dimension that holds the first label that a parameter has."""
        if labels is None:
            return None
        known = labels[(labels > 0) & (labels < self.end)]
        if not len(known):
            return None
        return self.parameter_dims[int(np.searchsorted(self.starts, known[0], side="right")) - 1]

    def behind(
        self, labels: np.ndarray | None, classes: Classes, among: Collection[str] = ()
    ) -> DimLabels | None:
        """As ``of``; for the labels of a rearranged parameter, those of a dimension in the same class, if one
        is of a parameter ``among`` these."""
        own = self.of(labels)
        if labels is None or (own is not None and (not among or own.param in among)):
            return own
        named = classes.of[1 : self.end]
        places = np.flatnonzero(np.isin(named, classes.of[labels]) & ~classes.fixed[named]) + 1
        if among:
            parameter_dims = (self.of(places[n : n + 1]) for n in range(len(places)))
            wanted = next((each for each in parameter_dims if each is not None and each.param in among), None)
            if wanted is not None or own is not None:
                return wanted or own
        return self.of(places[:1])


@dataclass
class _Fan:
    """The writers of a group (a set in order) and its readers, by their module, or by their parameter where
    no module is known; whether it is read in a way that has no name."""

    writers: dict[str, None] = field(default_factory=dict)
    readers: dict[tuple[str | None, str], Reader] = field(default_factory=dict)
    unnamed: bool = False

    @property
    def complete(self) -> bool:
        return bool(self.writers and (self.readers or self.unnamed))


def _multiplied(trace: Trace, classes: Classes, axes: Mapping[str, int]) -> np.ndarray:
    """Classes along axes that were asked for which are summed over between two activations: those are their
    fan-out, like the coordinates of queries and keys."""
    if not trace.constraints.inner:
        return np.zeros(0, dtype=np.int64)
    inner = np.unique(classes.of[np.concatenate(trace.constraints.inner)])
    blocks = trace.constraints.blocks
    asked = [classes.of[blocks[name].factors[axis]] for name, axis in axes.items() if name in blocks]
    return np.intersect1d(inner, np.concatenate(asked)) if asked else inner[:0]


def _nodes(
    trace: Trace, classes: Classes, owners: _Owners, multiplied: np.ndarray
) -> Iterator[tuple[np.ndarray, tuple[Slot, ...]]]:
    """Classes with the same signature (how many coordinates of which parameter dimension), in order."""
    parameter_dims = owners.parameter_dims
    if not parameter_dims:
        return
    sizes = np.array([dim_labels.size for dim_labels in parameter_dims])
    dim_of = np.repeat(np.arange(len(parameter_dims)), sizes)
    coordinate = np.concatenate([np.arange(size) for size in sizes])
    members = classes.of[1 : owners.end]
    alive = ~classes.fixed[members]
    alive &= _both_sides(_contractions(trace), classes, multiplied)[members]
    members, dim_of, coordinate = members[alive], dim_of[alive], coordinate[alive]
    if not len(members):
        return
    key, count = np.unique(members * len(parameter_dims) + dim_of, return_counts=True)
    weights = np.random.default_rng(0).integers(1, 2**63, size=len(parameter_dims), dtype=np.uint64)
    signature = np.zeros(len(classes.fixed), dtype=np.uint64)
    np.add.at(
        signature,
        key // len(parameter_dims),
        weights[key % len(parameter_dims)] * (2 * count.astype(np.uint64) + 1),
    )
    order = np.lexsort((coordinate, dim_of, signature[members]))
    members, dim_of, coordinate = members[order], dim_of[order], coordinate[order]
    edges = np.flatnonzero(np.diff(signature[members])) + 1
    for part in np.split(np.arange(len(members)), edges):
        own = members[part]
        slots, nodes = [], None
        for piece in np.split(part, np.flatnonzero(np.diff(dim_of[part])) + 1):
            dim_labels = parameter_dims[dim_of[piece[0]]]
            if nodes is None:
                nodes, first = np.unique(members[piece], return_index=True)
                nodes = nodes[np.argsort(first)]
                rank = np.full(own.max() + 1, -1)
                rank[nodes] = np.arange(len(nodes))
            by_node = np.argsort(rank[members[piece]], kind="stable")
            slots.append(
                Slot(dim_labels.param, dim_labels.dim, coordinate[piece][by_node].reshape(len(nodes), -1))
            )
        if nodes is not None and len(nodes) > 1:
            yield nodes, tuple(slots)


def _both_sides(contractions: list[Contraction], classes: Classes, multiplied: np.ndarray) -> np.ndarray:
    written = np.zeros(len(classes.fixed), dtype=bool)
    read = np.zeros(len(classes.fixed), dtype=bool)
    read[multiplied] = True
    for contraction in contractions:
        if contraction.written is not None and contraction.mixes:
            written[classes.of[contraction.written]] = True
        if contraction.contracted is not None:
            read[classes.of[contraction.contracted]] = True
    return written & read


def _add_contraction(
    modules: Mapping[str, nn.Module],
    contraction: Contraction,
    classes: Classes,
    owners: _Owners,
    group_of: np.ndarray,
    rank_of: np.ndarray,
    node_sets: list,
    fans: list[_Fan],
) -> None:
    """Note this contraction as writer and reader of the groups it touches."""
    if contraction.written is not None and contraction.mixes:
        touched = np.unique(group_of[classes.of[contraction.written]])
        owner = owners.behind(contraction.written, classes)
        name = owner.param if owner else contraction.module
        for index in touched[touched >= 0]:
            fans[index].writers.setdefault(name)
    if contraction.contracted is None or contraction.activation is None:
        return
    read = classes.of[contraction.contracted]
    seen = classes.of[contraction.activation]
    owner = owners.behind(contraction.contracted, classes, _computed_from(modules, contraction))
    hook = owner is not None and _hookable(modules, contraction, owner)
    touched = np.unique(group_of[read])
    for index in touched[touched >= 0]:
        size = len(node_sets[index][0])
        places = np.flatnonzero(group_of[seen] == index)
        ranks = rank_of[seen[places]]
        whole = (
            hook
            and len(places) % size == 0
            and (np.bincount(ranks, minlength=size) * size == len(places)).all()
        )
        coords = (
            places[np.argsort(ranks, kind="stable")].reshape(size, -1) if whole else np.zeros((size, 0), int)
        )
        if owner is None:
            fans[index].unnamed = True
            continue
        reader = Reader(
            contraction.module if whole else None,
            owner.param,
            owner.dim,
            1 if contraction.kind == "conv" else -1,
            coords,
        )
        fans[index].readers.setdefault((reader.module, "" if whole else reader.param), reader)


def _computed_from(modules: Mapping[str, nn.Module], contraction: Contraction) -> tuple[str, ...]:
    """The parameters that the weight of a contraction is computed from, where it is a call's."""
    module = modules[contraction.module]
    return module.sources if isinstance(module, ComputedCall) else ()


def _hookable(modules: Mapping[str, nn.Module], contraction: Contraction, owner: DimLabels) -> bool:
    """Is the activation the first input of a layer whose weight is that parameter, or is computed from it?"""
    module = modules[contraction.module]
    weight = effective_weight(module) if kind_of(module) is not None else None
    if weight is None or contraction.activation is None:
        return False
    behind = (_tensor(modules, name) for name in parameters_behind(contraction.module, module))
    parameter = _tensor(modules, owner.param)
    return len(contraction.activation) == input_width(module) and any(each is parameter for each in behind)


def _tensor(modules: Mapping[str, nn.Module], name: str) -> object:
    holder, _, leaf = name.rpartition(".")
    return getattr(modules[holder], leaf)


class _Widths:
    """Counts of labels as fixed parts and multiples of groups' widths."""

    def __init__(self, groups: list[Group], node_of: np.ndarray) -> None:
        self.groups = groups
        self.node_of = node_of
        self.group_of_node = np.repeat(np.arange(len(groups)), [group.size for group in groups])

    def factor(self, size: int, labels: np.ndarray | None) -> tuple[int, tuple[tuple[str, int], ...]]:
        if labels is None:
            return size, ()
        nodes = self.node_of[labels]
        held = nodes[nodes >= 0]
        if not len(held):
            return size, ()
        counts = np.bincount(self.group_of_node[held], minlength=len(self.groups))
        parts = tuple(
            (self.groups[i].name, int(counts[i]) // self.groups[i].size) for i in np.flatnonzero(counts)
        )
        return size - len(held), parts

    def parameters(self, model: nn.Module, constraints: Constraints) -> Iterator[Term]:
        by_place = constraints.by_place
        for name, parameter in model.named_parameters():
            dims = [(size, by_place.get((name, dim))) for dim, size in enumerate(parameter.shape)]
            factors = (self.factor(size, None if each is None else each.labels) for size, each in dims)
            yield Term(name, 1, tuple(factors))


def _frozen(
    trace: Trace, classes: Classes, owners: _Owners, node_of: np.ndarray, constants: Collection[str]
) -> Iterator[Frozen]:
    """The layers (no ``constants``) whose outputs are left whole, in forward order, each with the first cause
    found."""
    cause_of = np.full(len(classes.fixed), -1)
    for index in range(len(trace.constraints.frozen) - 1, -1, -1):
        cause_of[classes.of[trace.constraints.frozen[index][0]]] = index
    for product in reversed(trace.constraints.outer_products):
        _inherit(cause_of, classes, product)
    seen = set()
    for contraction in _contractions(trace):
        owner = owners.of(contraction.written)
        if owner is None or owner.param in seen or owner.param in constants or not contraction.mixes:
            continue
        seen.add(owner.param)
        own = owner.labels
        if (node_of[own] >= 0).any():
            continue
        causes = cause_of[classes.of[own]]
        cause = "no layer reads it by itself"
        if classes.fixed[classes.of[own]].any():
            cause = "its block must stay rectangular"
            if (causes >= 0).any():
                cause = trace.constraints.frozen[int(causes[causes >= 0].min())][1]
        yield Frozen(layer_of(owner.param), cause)


def _inherit(cause_of: np.ndarray, classes: Classes, product: OuterProductBlock) -> None:
    """Let the coordinates of a block that have no cause of their own have that of its longest axis."""
    whole = classes.of[product.whole]
    for factor in sorted(product.factors, key=lambda factor: len(np.unique(factor)), reverse=True):
        own = classes.of[factor]
        without = (cause_of[whole] < 0) & classes.fixed[whole] & classes.fixed[own]
        if without.any():
            cause_of[whole[without]] = cause_of[own[without]]
            return


def freeze_groups(trace: Trace, groups: list[Group], cause: str) -> None:
    """Leave these groups whole from now on (rebuild the graph afterwards)."""
    by_place = trace.constraints.by_place
    for group in groups:
        slot = group.slots[0]
        trace.constraints.freeze(by_place[slot.param, slot.dim].start + slot.coords.reshape(-1), cause)
