"""Parameters that only a forward in training mode reads: auxiliary heads, a token for masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

import numpy as np
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.runtime.modes import Inputs, plain_evaluation, run
from tsdistill.runtime.module_names import module_names
from tsdistill.runtime.nests import repeated
from tsdistill.tracing.labels import Constraints, DimLabels
from tsdistill.tracing.model_copy import deepcopy_model
from tsdistill.tracing.trace_record import Step, Trace
from tsdistill.tracing.tracer import Tracer


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
    pair = _pair(inputs)
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
    for batch in (inputs, _pair(inputs)):
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


def _pair(inputs: Inputs) -> Inputs:
    """The example twice: a batch norm in training mode needs more than one value."""
    return repeated(inputs, 2)
