"""Labelled forward passes: the trace of a model on one input, and on further inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tsdistill.errors import TsdistillError
from tsdistill.models.layers.call_kinds import CallLayer
from tsdistill.models.layers.layer_kind import is_norm, kind_of
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import BY_SIZES, Inputs, plain_evaluation
from tsdistill.runtime.module_names import attributes_read, module_names
from tsdistill.runtime.nests import tensors
from tsdistill.torch_private import buffers_of, is_batched, named_modules_of
from tsdistill.tracing.labels import Labels
from tsdistill.tracing.sibling_modules import CompanionCall, run_with_companions
from tsdistill.tracing.trace_record import Contraction, Run, Trace
from tsdistill.tracing.tracer import Tracer


class _Calls(TorchFunctionMode):
    """Tells the tracer which operators belong to one call of a function that picks them by sizes."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer
        self.call_count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in BY_SIZES:
            return func(*args, **(kwargs or {}))
        self.call_count += 1
        self.tracer.call = self.call_count
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.tracer.call = 0


def _call_layers(model: nn.Module, tracer: Tracer) -> ModuleHooks:
    """Keep the name of the call that is running as a layer in ``tracer.layer``."""

    def enter(call: ModuleCall) -> None:
        tracer.layer = call.name

    def leave(_: ModuleCall) -> None:
        tracer.layer = ""

    layers = {name: module for name, module in named_modules_of(model) if isinstance(module, CallLayer)}
    return ModuleHooks(layers, before=enter, after=leave)


def record(model: nn.Module, inputs: Inputs) -> Trace:
    """One labelled forward of ``model``; another one where the first has left something behind in it.

    What a module computes once and keeps (a table of positions, say) is computed by no later forward, so
    that a trace with it in would not be what a cut is compared with.
    """
    with plain_evaluation(model):
        pass  # here modules drop the tables that they keep from one evaluation to the next
    before = _held(model)
    trace = _recorded(model, inputs)
    after = _held(model)
    if len(after) != len(before) or any(a is not b for a, b in zip(before, after, strict=True)):
        trace = _recorded(model, inputs)
        trace.cached = True
    return trace


def _held(model: nn.Module) -> list[Any]:
    """Everything that the modules hold, in order."""
    return [
        value
        for _, module in named_modules_of(model)
        for values in (vars(module), buffers_of(module))
        for value in values.values()
    ]


def record_further(
    model: nn.Module,
    inputs: Inputs,
    trace: Trace,
    companions: Mapping[str, tuple[str, ...]] | None = None,
) -> None:
    """Add a run on other ``inputs`` to those of ``trace`` (see `trace_record.Run`).

    The outputs of a companion of the same class and shapes as the module behind which it is called are pruned
    with those of that module. Outputs of other companions are not pruned: what reads them is not known.

    Raises:
        TsdistillError: the forward fails; the trace is then as it was.
    """
    mark = trace.constraints.mark()
    turn = f"run {len(trace.further_runs) + 2} "
    try:
        further = _recorded(model, inputs, Tracer(model, trace.constraints, turn), companions or {})
    except TsdistillError:
        trace.constraints.rewind(mark)
        raise
    trace.further_runs.append(Run(inputs, further, companions or {}))


def _recorded(
    model: nn.Module,
    inputs: Inputs,
    tracer: Tracer | None = None,
    companions: Mapping[str, tuple[str, ...]] | None = None,
) -> Trace:
    tracer = tracer or Tracer(model)
    tracer.mark_input(inputs)
    with (
        plain_evaluation(model, scales=True),
        module_names(model, tracer.stack),
        _call_layers(model, tracer),
        inputs_of_layers(model, tracer),
        attributes_read(model, tracer.note, tracer.note_mode),
        tracer,
        _Calls(tracer),
    ):
        output, calls = run_with_companions(model, inputs, companions or {})
        companion_labels = [labels for call in calls for labels in _settle_companion(model, tracer, call)]
    trace = tracer.finish(output)
    trace.companion_labels = companion_labels
    return trace


def _settle_companion(model: nn.Module, tracer: Tracer, call: CompanionCall) -> list[Labels]:
    """Say what becomes of what a companion gave; the labels of that, tensor by tensor."""
    outputs, like = tensors(call.output), tensors(call.module_output)
    alike = same_shapes(model.get_submodule(call.companion), model.get_submodule(call.module))
    alike = alike and [t.shape for t in outputs] == [t.shape for t in like]
    for place, tensor in enumerate(outputs):
        labels = tracer.labels(like[place]) if alike else (None,) * tensor.ndim
        for own, other in zip(tracer.labels(tensor), labels, strict=True):
            tracer.constraints.unite(own, other, f"what {call.companion} gives, which no input runs")
    return [tracer.labels(tensor) for tensor in outputs]


def same_shapes(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules are of one class and have the same parameters, by name and shape."""
    shapes = [{name: p.shape for name, p in module.named_parameters()} for module in (one, other)]
    return type(one) is type(other) and shapes[0] == shapes[1]


def inputs_of_layers(model: nn.Module, tracer: Tracer) -> ModuleHooks:
    """Mark what layers of ``model`` are given as data, inside the block.

    Learnt constants, queries and latents go through layers like any activation. Their nodes can leave: the
    parameter is the layer that writes them.
    """

    def mark(call: ModuleCall) -> None:
        kind, inputs = kind_of(call.module), (*call.args, *call.kwargs.values())
        channel_dim = -1 if kind is None else kind.channel_dim
        for x in inputs if kind is None else inputs[:1]:
            if not isinstance(x, torch.Tensor) or is_batched(x):
                continue
            if not x.is_floating_point() or tracer.is_data(x):
                continue
            labels = tracer.labels(x)[channel_dim] if x.ndim >= abs(channel_dim) + (channel_dim > 0) else None
            tracer.mark_input(x, known=True)
            if labels is not None and tracer.of_parameter(labels):
                tracer.contractions.append(Contraction(call.name, "constant", None, None, labels))

    layers = {
        name: module
        for name, module in named_modules_of(model)
        if kind_of(module) is not None or is_norm(module) or isinstance(module, nn.MultiheadAttention)
    }
    return ModuleHooks(layers, before=mark)
