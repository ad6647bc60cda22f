"""What only a forward in training mode reads: heads beside the way to the output, a token for masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from tsdistill.errors import TsdistillError
from tsdistill.tracing.copying import copied
from tsdistill.tracing.labels import Ruler
from tsdistill.tracing.record import Trace
from tsdistill.tracing.runtime import Inputs, plain_evaluation, run
from tsdistill.tracing.tracer import Tracer, module_names


def learn(model: nn.Module, inputs: Inputs, trace: Trace) -> tuple[Ruler, ...]:
    """Let a forward in training mode say what parameters go with that the traced forward leaves unread.

    They are no nodes and score nothing, but their coordinates go with the nodes that they meet, so that a cut
    model can be trained on. Where the forward fails in training mode (it asks for targets), or runs operators
    that are not known, nothing is learnt.

    Returns:
        the rulers of those parameters, none where nothing was learnt.
    """
    unread = tuple(_unread(model, trace))
    if not unread:
        return ()
    mark = trace.ledger.mark()
    twin = copied(model)
    tracer = Tracer(twin, trace.ledger)
    pair = _pair(inputs)
    tracer.mark_input(pair)
    learnt = False
    with suppress(TsdistillError):
        with plain_evaluation(twin, training=True), module_names(twin, tracer.stack), tracer:
            output = run(twin, pair)
        tracer.finish(output)
        learnt = not tracer.unknown
    if not learnt:
        trace.ledger.rewind(mark)
    return unread if learnt else ()


def trains(model: nn.Module, inputs: Inputs) -> bool:
    """Whether a forward of ``model`` in training mode goes through; ``model`` stays as it is."""
    twin = copied(model)
    try:
        with plain_evaluation(twin, training=True):
            run(twin, _pair(inputs))
    except TsdistillError:
        return False
    return True


def _unread(model: nn.Module, trace: Trace) -> Iterator[Ruler]:
    met = np.zeros(trace.ledger.count, dtype=bool)
    for step in trace.steps:
        for labels in step.touched:
            met[labels] = True
    parameters = {name for name, _ in model.named_parameters()}
    for ruler in trace.ledger.rulers:
        if ruler.param in parameters and not met[ruler.labels].any():
            yield ruler


def _pair(inputs: Inputs) -> Inputs:
    """The example twice: a batch norm in training mode wants more than one value."""

    def twice(value: object) -> object:
        alone = isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == 1
        return torch.cat([value, value]) if alone else value  # type: ignore[list-item]

    return pytree.tree_map(twice, inputs)
