"""Further runs of a traced model, for the parameters that the example's run does not read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import Inputs, OperatorMode, guarded, plain_evaluation, run
from tsdistill.runtime.module_names import module_names
from tsdistill.runtime.nests import count, cut, repeated, tensors
from tsdistill.tracing.labelled_run import record_further, same_shapes
from tsdistill.tracing.labels import Constraints, DimLabels
from tsdistill.tracing.model_copy import deepcopy_model
from tsdistill.tracing.trace_record import Step, Trace
from tsdistill.tracing.tracer import Tracer, place_of

MAX_SINGLE_SAMPLES = 12
"""Runs on single samples, on each of which every cut is checked; what they leave out is met by batches."""

MAX_CANDIDATES = 32
"""Modules on whose arguments one that no input runs is tried."""


class _ReadParameters(OperatorMode):
    """Notes which of some parameters operators read."""

    def __init__(self, watched: Mapping[tuple, str]) -> None:
        super().__init__()
        self.watched, self.read = watched, set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tensors((args, kwargs) if kwargs else args):
            name = self.watched.get(place_of(tensor))
            if name is not None:
                self.read.add(name)
        return func(*args, **(kwargs or {}))


def add_further_runs(model: nn.Module, trace: Trace, unrun: set[str], others: Iterable[Inputs]) -> set[str]:
    """Look through ``others`` for inputs that run parameters which nothing has run yet, and trace those.

    The inputs are run without labels first, until nothing is left to look for. Of a batch that reads such a
    parameter the single samples that do are traced: where none does by itself, or there are many, the batch.

    Args:
        model: the traced model.
        trace: of its run on the example; the further runs are added to it.
        unrun: names of parameters that it does not read.
        others: inputs, such as the batches of calibration data.

    Returns:
        names of the parameters that no run reads.
    """
    left = set(unrun)
    inputs = iter(others)
    while left and (batch := next(inputs, None)) is not None:
        news = _read_by(model, batch, left)
        for sample in chain(_samples(batch), [batch]):
            if not news:
                break
            if sample is not batch and (
                len(trace.further_runs) >= MAX_SINGLE_SAMPLES or not _read_by(model, sample, news)
            ):
                continue
            with suppress(TsdistillError):
                record_further(model, sample, trace)
                left &= (unread := _unread_last(model, trace))
                news &= unread
    return left


def _unread_last(model: nn.Module, trace: Trace) -> set[str]:
    """Names of the parameters that the last further run does not read."""
    steps = trace.further_runs[-1].trace.steps
    return {dim_labels.param for dim_labels in unread_by(model, trace.constraints, steps)}


def _read_by(model: nn.Module, inputs: Inputs, names: set[str]) -> set[str]:
    """Which of these parameters a forward reads; none where it fails."""
    parameters = dict(model.named_parameters())
    mode = _ReadParameters({place_of(parameters[name]): name for name in names})
    with suppress(TsdistillError):
        with plain_evaluation(model), mode:
            run(model, inputs)
        return mode.read
    return set()


def _samples(batch: Inputs) -> Iterator[Inputs]:
    """The samples of a batch, each as a batch of one; none where they cannot be separated."""
    if (size := count(batch)) > 1 and count(cut(batch, 0, 1)) == 1:
        for place in range(size):
            yield cut(batch, place, place + 1)


def add_companions(
    model: nn.Module, trace: Trace, example: Inputs, unrun: set[str]
) -> tuple[set[str], dict[str, str]]:
    """Trace modules that no input runs beside modules like them, on the arguments that these get.

    Like a module is one of the same class below the same parent (an expert beside the others, a head beside
    another); best one with parameters of the same shapes.

    Returns:
        names of the parameters that are left; and for every such module the one that it ran behind.
    """
    left, behind = set(unrun), dict[str, str]()
    candidates = _candidates(model, left)
    for inputs in (example, *(each.inputs for each in list(trace.further_runs))):
        if not candidates:
            break
        fitting = _companions(model, inputs, candidates)
        companions: dict[str, list[str]] = defaultdict(list)
        for unit, other in fitting.items():
            companions[other].append(unit)
        if not companions:
            continue
        with suppress(TsdistillError):
            record_further(model, inputs, trace, {name: tuple(units) for name, units in companions.items()})
            left &= _unread_last(model, trace)
            behind.update(fitting)
            candidates = {unit: others for unit, others in candidates.items() if unit not in fitting}
    return left, behind


def outermost_modules(model: nn.Module, names: Iterable[str]) -> dict[str, list[str]]:
    """Parameters by the outermost module all of whose parameters are among ``names``; a parameter that lies
    beside others by its own name."""
    left = set(names)
    by_module: dict[str, list[str]] = {}
    for path, module in model.named_modules():
        own = [f"{path}.{name}" if path else name for name, _ in module.named_parameters()]
        if path and own and left.issuperset(own):
            by_module[path] = own
            left.difference_update(own)
    return {**by_module, **{name: [name] for name in sorted(left)}}


def _candidates(model: nn.Module, unrun: set[str]) -> dict[str, list[str]]:
    """Modules of which nothing has run -> those like them of which something has, the likest first: with
    parameters of the same shapes, or else beside them rather than one level below."""
    modules = dict(model.named_modules())
    candidates: dict[str, list[str]] = {}
    for unit in outermost_modules(model, unrun):
        if unit not in modules:
            continue
        parent = unit.rpartition(".")[0]
        siblings = list(_children(modules[parent], parent))
        below = [pair for name, module in siblings for pair in _children(module, name)]
        likes = [
            (name, module)
            for name, module in (*siblings, *below)
            if type(module) is type(modules[unit])
            and not any(f"{name}.{own}" in unrun for own, _ in module.named_parameters())
        ]
        likes.sort(key=lambda like: not same_shapes(like[1], modules[unit]))
        if likes:
            candidates[unit] = [name for name, _ in likes[:MAX_CANDIDATES]]
    return candidates


def _children(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        yield (f"{path}.{name}" if path else name), child


def _companions(model: nn.Module, inputs: Inputs, candidates: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Module -> the first of its candidates on whose arguments it runs through."""
    runs: dict[str, list[str]] = defaultdict(list)
    for unit, others in candidates.items():
        for other in others:
            runs[other].append(unit)
    fits: dict[str, set[str]] = defaultdict(set)

    def try_units(call: ModuleCall) -> None:
        for unit in runs[call.name]:
            with suppress(Exception):  # the model's code, on arguments of another module
                model.get_submodule(unit)(*call.args, **call.kwargs)
                fits[unit].add(call.name)

    hooks = ModuleHooks({name: model.get_submodule(name) for name in runs}, after=try_units)
    with hooks, suppress(TsdistillError), plain_evaluation(model):
        guarded(model, inputs)
    first = {unit: next((o for o in others if o in fits[unit]), None) for unit, others in candidates.items()}
    return {unit: other for unit, other in first.items() if other is not None}


def trace_training(
    model: nn.Module, inputs: Inputs, trace: Trace
) -> tuple[tuple[DimLabels, ...], tuple[DimLabels, ...]]:
    """Trace a forward in training mode for the parameters that the traced forward does not read.

    They are no nodes and have no strength, but their coordinates are removed with the nodes that share their
    class, so that a cut model can be trained. Where the forward fails in training mode (it needs targets),
    or runs operators without a rule, nothing is added.

    Returns:
        the dimensions of those parameters that training reads, none where nothing was added; and of those
        that it does not read either.
    """
    unread = tuple(unread_by(model, trace.constraints, trace.steps))
    if not unread:
        return (), ()
    mark = trace.constraints.mark()
    copied = deepcopy_model(model)
    tracer = Tracer(copied, trace.constraints)
    pair = _twice(inputs)
    tracer.mark_input(pair)
    learnt = False
    with suppress(TsdistillError):
        with plain_evaluation(copied, training=True), module_names(copied, tracer.stack), tracer:
            output = run(copied, pair)
        tracer.finish(output)
        learnt = not tracer.unknown
    unreached = set(unread_by(model, trace.constraints, tracer.steps)) if learnt else {*unread}
    unreached &= {*unread}
    if len(unreached) == len(unread):
        trace.constraints.rewind(mark)
    return tuple(d for d in unread if d not in unreached), tuple(d for d in unread if d in unreached)


def runs_in_training(model: nn.Module, inputs: Inputs) -> bool:
    """Whether a forward of ``model`` in training mode succeeds on ``inputs`` or on a pair of them.

    The forward may change buffers of ``model``, such as the running statistics of a batch norm.
    """
    for batch in (inputs, _twice(inputs)):
        with suppress(TsdistillError), plain_evaluation(model, training=True):
            run(model, batch)
            return True
    return False


def unread_by(model: nn.Module, constraints: Constraints, steps: Iterable[Step]) -> Iterator[DimLabels]:
    """The dimensions of parameters that no operator of ``steps`` reads."""
    met = np.zeros(constraints.count, dtype=bool)
    for step in steps:
        for labels in step.touched:
            met[labels] = True
    parameters = {name for name, _ in model.named_parameters()}
    for dim_labels in constraints.parameter_dims:
        if dim_labels.param in parameters and not met[dim_labels.labels].any():
            yield dim_labels


def _twice(inputs: Inputs) -> Inputs:
    """The example twice: a batch norm in training mode needs more than one value."""
    return repeated(inputs, 2)
