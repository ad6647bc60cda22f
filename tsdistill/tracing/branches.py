"""Residual branches of a model: what modules add to a stream and nothing else reads."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile

from torch import nn

from tsdistill.models.requirements import check_open
from tsdistill.runtime.exclusive import without_collector
from tsdistill.runtime.modes import Inputs
from tsdistill.runtime.unchanged import unchanged
from tsdistill.torch_private import named_modules_of
from tsdistill.tracing.branch_regions import Region, regions
from tsdistill.tracing.data_flow import DataFlow, FlowCall, data_flow
from tsdistill.tracing.graph import NodeGraph

MAP_RANK = 4
"""Dimensions of a batch of maps, whose channels are dimension 1; of what has fewer they are the last."""


@dataclass(frozen=True)
class BranchOutput:
    """Where a branch ends.

    Attributes:
        module: the module whose output enters the sum.
        place: which of its outputs that is, where it gives several.
        axis: the dimension of channels of that output.
        channels: its size there.
    """

    module: str
    place: int
    axis: int
    channels: int


@dataclass(frozen=True)
class Branch:
    """A residual branch: modules whose results reach the rest of the model through one sum only.

    Attributes:
        name: the module that the branch is, or the one that it is in; unique in the model.
        modules: the outermost modules that run for nothing but the branch, in forward order.
        outputs: those of them whose outputs enter the sum.
        place: the module whose forward adds the branch to the stream.
        shape: of the branch's contribution at batch 1.
        params: number of parameters of ``modules``.
        macs: multiply-accumulates in ``modules`` at batch 1.
        stream: names of the groups whose nodes the branch is added to, where a node graph is known.
        within: name of the smallest branch that this one lies in.
        rivals: names of branches of the same sum; one of the summands has to stay.
    """

    name: str
    modules: tuple[str, ...]
    outputs: tuple[BranchOutput, ...]
    place: str
    shape: tuple[int, ...]
    params: int
    macs: int
    stream: tuple[str, ...] = ()
    within: str | None = None
    rivals: tuple[str, ...] = ()

    @property
    def last(self) -> tuple[str, ...]:
        """Names of the modules whose outputs enter the sum."""
        return tuple(output.module for output in self.outputs)


@unchanged
@without_collector()
def trace_branches(
    model: nn.Module, example_input: Inputs, *, graph: NodeGraph | None = None
) -> tuple[Branch, ...]:
    """Find the residual branches of ``model``, in forward order.

    A branch is a summand that modules compute with weights, from what another summand of the same sum is
    computed from, too: attention, a feed-forward network, a stack of convolutions. A projection beside a
    deeper branch is its shortcut, no branch.

    Args:
        model: any module; it is not changed.
        example_input: a tensor, a tuple of arguments or a dict of keyword arguments, batch size 1.
        graph: node graph of the model, from which the groups of a branch's stream are taken.

    Raises:
        TsdistillError: the forward fails.
    """
    check_open(model)
    return find_branches(model, data_flow(model, example_input), graph)


def find_branches(model: nn.Module, flow: DataFlow, graph: NodeGraph | None = None) -> tuple[Branch, ...]:
    """`trace_branches` on the record of a run."""
    ownership = _Ownership(model, flow)
    owned = [(region, ownership.outermost(region.steps)) for region in regions(flow)]
    branches: list[tuple[Region, Branch]] = []
    for region, modules in owned:
        last = ownership.last(region, modules)
        if not last or not any(ownership.parameters(name) for name in modules):
            continue
        branch = Branch(
            name="",
            modules=modules,
            outputs=tuple(_output(flow, name) for name in last),
            place=flow.steps[region.sums[0]].module,
            shape=flow.steps[region.roots[0]].shape,
            params=ownership.count(modules),
            macs=ownership.macs(modules),
            stream=_stream(flow, region, graph),
        )
        branches.append((region, branch))
    names = _names([branch for _, branch in branches], ownership)
    by_sum: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for (region, _), name in zip(branches, names, strict=True):
        by_sum[region.sums].append(name)
    named = []
    for (region, branch), name in zip(branches, names, strict=True):
        around = [
            (len(other.steps), other_name)
            for (other, _), other_name in zip(branches, names, strict=True)
            if other is not region and region.sums[0] in other.steps
        ]
        rivals = tuple(other for other in by_sum[region.sums] if other != name)
        named.append(replace(branch, name=name, within=min(around)[1] if around else None, rivals=rivals))
    return tuple(named)


class _Ownership:
    """Which modules run inside of which steps.

    Args:
        model: the model.
        flow: of its run.
    """

    def __init__(self, model: nn.Module, flow: DataFlow) -> None:
        self._flow = flow
        self._modules = dict(named_modules_of(model))
        self._params = dict(model.named_parameters(remove_duplicate=False))
        self._owners = Counter(id(parameter) for parameter in self._params.values())
        self._order = {id(call): place for place, call in enumerate(flow.calls)}

    @cached_property
    def _below(self) -> Mapping[str, list[str]]:
        """Every module that ran or holds one that did -> itself and those below it that ran."""
        below: dict[str, list[str]] = defaultdict(list)
        for name in self._flow.calls_of:
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                below[".".join(parts[:length])].append(name)
        return below

    def outermost(self, steps: frozenset[int]) -> tuple[str, ...]:
        """The largest modules that can be replaced, with all calls in ``steps``; in forward order."""
        inside = {
            name for name, calls in self._flow.calls_of.items() if all(self._lies(c, steps) for c in calls)
        }
        whole = {
            name
            for name, calls in self._flow.calls_of.items()
            if name in inside
            and all(call.replaceable for call in calls)
            and all(each in inside for each in self._below[name])
        }
        outer = [name for name in whole if not any(parent in whole for parent in _parents(name))]
        return tuple(sorted(outer, key=lambda name: self._order[id(self._flow.calls_of[name][0])]))

    def _lies(self, call: FlowCall, steps: frozenset[int]) -> bool:
        """Whether a call belongs to ``steps``. One without operators does by what goes in."""
        live = [number for number in range(call.first, call.end) if self._flow.live[number]]
        if live:
            return all(number in steps for number in live)
        places = {operand.step for operand in call.inputs.values() if operand.floating}
        return bool(places) and places <= steps

    def last(self, region: Region, modules: Iterable[str]) -> tuple[str, ...]:
        """Those of ``modules`` that no other one of them follows on the way to the sum."""
        calls = [call for name in modules for call in self._flow.calls_of[name] if call.form]
        by_output: dict[int, FlowCall] = {}
        for call in sorted(calls, key=lambda each: self._order[id(each)]):
            by_output.update((o.step, call) for o in call.outputs if o is not None and o.step is not None)
        within = {number for call in calls for number in range(call.first, call.end)}
        names: set[str] = set()
        pending, seen = list(region.roots), set[int]()
        while pending:
            number = pending.pop()
            if number in seen or number not in region.steps:
                continue
            seen.add(number)
            if number in by_output:
                names.add(by_output[number].module)
            elif number not in within:
                pending += self._flow.steps[number].sources
        return tuple(name for name in modules if name in names)

    def parameters(self, name: str) -> list[str]:
        """Names of the parameters of a module, with those below it."""
        return [each for each in self._params if each.startswith(f"{name}.")]

    def count(self, modules: Iterable[str]) -> int:
        """Number of parameters that only ``modules`` hold."""
        names = [each for name in modules for each in self.parameters(name)]
        held = Counter(id(self._params[name]) for name in names)
        alone = {id(self._params[n]): self._params[n] for n in names}
        return sum(p.numel() for key, p in alone.items() if held[key] == self._owners[key])

    def macs(self, modules: Iterable[str]) -> int:
        """Multiply-accumulates in the calls of ``modules``."""
        steps = {
            number
            for name in modules
            for call in self._flow.calls_of[name]
            for number in range(call.first, call.end)
        }
        return sum(self._flow.steps[number].macs for number in steps)

    def is_layer(self, name: str) -> bool:
        """Whether a module has weights of two or more dimensions (norms and scales have not)."""
        return any(self._params[each].ndim > 1 for each in self.parameters(name))


def _output(flow: DataFlow, module: str) -> BranchOutput:
    """The output of a module that operators behind it read; the first one where none or several are."""
    call = flow.calls_of[module][0]
    outputs = [(place, operand) for place, operand in enumerate(call.outputs) if operand is not None]
    place, operand = ([(n, each) for n, each in outputs if flow.is_read(each, call)] or outputs)[0]
    rank = len(operand.shape)
    axis = None if operand.step is None else flow.steps[operand.step].axis
    if axis is None:
        axis = rank - 1 if rank < MAP_RANK else 1
    return BranchOutput(module, place, axis, operand.shape[axis] if rank else 1)


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _names(branches: list[Branch], ownership: _Ownership) -> list[str]:
    """A name for each branch: its one module with layers in it, or else the module that holds them all; the
    last layer where that is the model itself or another branch has that name."""
    wanted = [_name(branch, ownership) for branch in branches]
    times = Counter(wanted)
    names: list[str] = []
    for branch, name in zip(branches, wanted, strict=True):
        last = next((m for m in reversed(branch.modules) if ownership.is_layer(m)), branch.modules[-1])
        name = name if times[name] == 1 else last
        number = 1
        while name in names:
            number += 1
            name = f"{last}:{number}"
        names.append(name)
    return names


def _name(branch: Branch, ownership: _Ownership) -> str:
    layers = [name for name in branch.modules if ownership.is_layer(name)] or list(branch.modules)
    if len(layers) == 1:
        return layers[0]
    levels = zip(*(name.split(".") for name in layers), strict=False)
    shared = [level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels)]
    return ".".join(shared) or layers[-1]


def _stream(flow: DataFlow, region: Region, graph: NodeGraph | None) -> tuple[str, ...]:
    """The groups whose nodes lie in the sum, read off the labels of the same step of the labelled run."""
    record = None if graph is None else graph.record
    place = region.sums[0] - flow.inputs
    if graph is None or record is None or place >= len(record.trace.steps):
        return ()
    step = record.trace.steps[place]
    if step.op != flow.steps[region.sums[0]].op:
        return ()
    channels = {
        flow.steps[region.sums[0]].shape[axis] for axis in (flow.steps[region.roots[0]].axis,) if axis
    }
    nodes = [record.node_of[labels] for labels in step.touched if len(labels) in channels]
    return tuple(dict.fromkeys(name for each in nodes for name in graph.groups_of(each)))
