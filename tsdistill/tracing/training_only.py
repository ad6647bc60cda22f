"""What only a forward in training mode reads: heads beside the way to the output, a token for masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

import numpy as np
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.runtime.modes import Inputs, plain_evaluation, run
from tsdistill.runtime.module_names import module_names
from tsdistill.runtime.nests import repeated
from tsdistill.tracing.labels import Ledger, Ruler
from tsdistill.tracing.model_copy import copied
from tsdistill.tracing.trace_record import Step, Trace
from tsdistill.tracing.tracer import Tracer


def learn(model: nn.Module, inputs: Inputs, trace: Trace) -> tuple[tuple[Ruler, ...], tuple[Ruler, ...]]:
    """Let a forward in training mode say what parameters go with that the traced forward leaves unread.

    They are no nodes and score nothing, but their coordinates go with the nodes that they meet, so that a cut
    model can be trained on. Where the forward fails in training mode (it asks for targets), or runs operators
    that are not known, nothing is learnt.

    Returns:
        the rulers of those parameters that training reads, none where nothing was learnt; and of those that
        it does not read either.
    """
    unread = tuple(unread_by(model, trace.ledger, trace.steps))
    if not unread:
        return (), ()
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
    dark = set(unread_by(model, trace.ledger, tracer.steps)) if learnt else {*unread}
    dark &= {*unread}
    if len(dark) == len(unread):
        trace.ledger.rewind(mark)
    return tuple(ruler for ruler in unread if ruler not in dark), tuple(r for r in unread if r in dark)


def trains(model: nn.Module, inputs: Inputs) -> bool:
    """Whether a forward of ``model`` in training mode goes through; ``model`` stays as it is."""
    twin = copied(model)
    try:
        with plain_evaluation(twin, training=True):
            run(twin, _pair(inputs))
    except TsdistillError:
        return False
    return True


def unread_by(model: nn.Module, ledger: Ledger, steps: Iterable[Step]) -> Iterator[Ruler]:
    """The rulers of parameters that no operator of ``steps`` reads."""
    met = np.zeros(ledger.count, dtype=bool)
    for step in steps:
        for labels in step.touched:
            met[labels] = True
    parameters = {name for name, _ in model.named_parameters()}
    for ruler in ledger.rulers:
        if ruler.param in parameters and not met[ruler.labels].any():
            yield ruler


def _pair(inputs: Inputs) -> Inputs:
    """The example twice: a batch norm in training mode wants more than one value."""

    return repeated(inputs, 2)
