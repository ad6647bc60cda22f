"""Parameters that no run of a model reads: which widths could be whose, and what becomes of those."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
from torch import nn

from tsdistill.models.layers.layer_kind import kind_of
from tsdistill.tracing.additional_runs import outermost_modules
from tsdistill.tracing.graph import Group, NodeGraph
from tsdistill.tracing.trace_record import Trace

_NAMED = 4
"""Names in one note; more are counted."""

_LISTS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
"""Modules whose members other modules call one by one, so that what passes between them can be seen there."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass
class UnrunWidths:
    """What is done about parameters that no run reads.

    Attributes:
        whole: group -> why it is not pruned.
        along: parameter that no run reads -> ``(parameter, dimension)`` of the only group that can be its.
        notes: lines for the user.
    """

    whole: dict[str, str] = field(default_factory=dict)
    along: dict[str, tuple[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def unrun_widths(
    model: nn.Module, graph: NodeGraph, unrun: Iterable[str], behind: Mapping[str, str]
) -> UnrunWidths:
    """What has to be done before ``graph`` can be cut without harm to what no run reads.

    A width could be that of a parameter which nothing runs if the parameter has a dimension of a size in
    which the nodes occur, and the nodes can be seen where its module would be called: not all of them lie in
    one module beside it. No such width is pruned. Where a module has been traced beside one like it
    (`further.add_companions`), and there is only one such width, it is cut along; likewise a vector.

    Args:
        model: the traced model.
        graph: its node graph.
        unrun: names of parameters that no run reads.
        behind: module that no run reads -> the one like it that it was traced behind.
    """
    result = UnrunWidths()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict(keep_vars=True).items()}
    shapes |= {name: tuple(p.shape) for name, p in model.named_parameters(remove_duplicate=False)}
    convolutions = {n for n, m in model.named_modules() if (kind := kind_of(m)) is not None and kind.sides}
    kept: dict[tuple[str, ...], list[str]] = defaultdict(list)

    def whole(unit: str, groups: Iterable[Group]) -> None:
        names = [group.name for group in groups]
        result.whole.update(dict.fromkeys(names, f"{unit}, which no input runs, may be as wide"))
        kept["whole", *names].append(unit)

    for unit, names in outermost_modules(model, unrun).items():
        sizes = {
            size
            for name in names
            for dim, size in enumerate(shapes[name])
            if size > 1 and (dim < 2 or name.rpartition(".")[0] not in convolutions)
        }
        groups = [group for group in graph.groups if _could_be(group, unit, sizes, model, shapes)]
        vector = names == [unit] and len([size for size in shapes[unit] if size > 1]) == 1
        place = _place(groups[0], max(shapes[unit]), shapes) if vector and len(groups) == 1 else None
        if place is not None:
            result.along[unit] = place
            kept["along", groups[0].name].append(unit)
            continue
        whole(unit, groups)
    for unit, other in behind.items():
        own = [group for group in graph.groups if _shared(group, unit)]
        sizes = {
            shapes[slot.param][slot.dim] for group in own for slot in group.slots if _inside(slot.param, unit)
        }
        rivals = [g for g in graph.groups if g not in own and _could_be(g, unit, sizes, model, shapes)]
        if rivals or any(size in sizes for size in _fixed_widths(graph, unit)):
            whole(unit, [*own, *rivals])
        else:
            kept["like", other].append(unit)
    result.notes = [_note(kind, about, units_) for (kind, *about), units_ in kept.items()]
    return result


def unite_unrun(trace: Trace, widths: UnrunWidths) -> None:
    """Write the vectors that are cut along into the trace's constraints."""
    by_place = trace.constraints.by_place
    for name, place in widths.along.items():
        for (param, _), dim_labels in by_place.items():
            if param == name:
                trace.constraints.unite(dim_labels.labels, by_place[place].labels, "may lie along it")


def _note(kind: str, about: list[str], names: list[str]) -> str:
    run, they, them, whose = ("run", "they are", "them", "whose")
    if len(names) == 1:
        run, they, them, whose = ("runs", "it is", "it", "its")
    subject, hint = f"{_listed(names)} {run} on no input", f"give data that run {them}"
    if kind == "like":
        return f"{subject}: {they} cut along as if called where {about[0]} is; {hint}"
    if kind == "along":
        return f"{subject}: {they} cut along with {about[0]}; {hint}"
    if not about:
        return f"{subject}: {they} left as {they}"
    return f"{subject}: widths that could be {whose} are not pruned ({_listed(about)}); {hint}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _could_be(group: Group, unit: str, sizes: set[int], model: nn.Module, shapes: Shapes) -> bool:
    """Whether nodes of ``group`` occur in a dimension of one of ``sizes`` and can be seen at ``unit``."""
    if not any(shapes[slot.param][slot.dim] in sizes for slot in group.slots):
        return False
    parents = [slot.param.split(".")[:-1] for slot in group.slots if not _inside(slot.param, unit)]
    levels = takewhile(lambda names: len(set(names)) == 1, zip(*parents, strict=False))
    shared = [names[0] for names in levels]
    while shared and isinstance(model.get_submodule(".".join(shared)), _LISTS):
        shared.pop()
    return unit.split(".")[:-1][: len(shared)] == shared


def _place(group: Group, size: int, shapes: Shapes) -> tuple[str, int] | None:
    """A parameter's dimension of this size that holds the nodes of ``group`` and nothing else."""
    for slot in group.slots:
        if slot.coords.size == shapes[slot.param][slot.dim] == size:
            return slot.param, slot.dim
    return None


def _inside(param: str, unit: str) -> bool:
    return param.startswith(f"{unit}.")


def _shared(group: Group, unit: str) -> bool:
    """Whether nodes lie both in ``unit`` and outside of it."""
    return len({_inside(slot.param, unit) for slot in group.slots}) == 2


def _fixed_widths(graph: NodeGraph, unit: str) -> Iterator[int]:
    """Sizes of the inputs that are not prunable of layers beside ``unit``, or further up."""
    record = graph.traced
    above = unit.split(".")[:-1]
    for trace in record.trace.every:
        for contraction in trace.contractions:
            labels = contraction.contracted
            parent = contraction.module.split(".")[:-1]
            if labels is None or above[: len(parent)] != parent or _inside(f"{contraction.module}.", unit):
                continue
            if (record.node_of[np.unique(labels)] < 0).all():
                yield len(labels)
