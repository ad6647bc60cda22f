"""Runs that go on beside a trace: each operator finds the step of the trace that it repeats."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import takewhile

import numpy as np
import torch

from tsdistill.errors import TsdistillError
from tsdistill.runtime.modes import OperatorMode
from tsdistill.runtime.randomness import Drawn
from tsdistill.tracing.trace_record import Record, Step

_LOOKAHEAD, _MAX_MISMATCHES = 12, 64
"""How many coming steps an operator is looked for among, and how many may be found in none."""


class TraceAligner(OperatorMode):
    """A dispatch mode for a run beside the trace of ``record``, with the nodes ``gone``.

    ``stack`` takes the names of the running modules; ``inside`` holds what the run is judged by besides its
    output.
    """

    def __init__(self, record: Record, gone: np.ndarray) -> None:
        super().__init__()
        self.record, self.gone = record, gone
        self.position = 0
        self.mismatches = 0
        self.stack = [""]
        self.mismatch_module = ""
        self.compared: list[torch.Tensor] = []

    def next(self, op: str) -> Step | None:
        """The step of the trace that operator ``op`` repeats; None for one that only this run needs.

        Whether a reshape copies, and how a product is computed, depends on strides and so on widths: steps
        that are left out, and others in their place, are passed over while the module stays the same.
        """
        steps = self.record.trace.steps
        if not self.mismatches and self.position < len(steps) and steps[self.position].op == op:
            self.position += 1
            return steps[self.position - 1]
        kind = operator_kind(op)
        self._find_back()
        for number, step in enumerate(self.upcoming()):
            if operator_kind(step.op) == kind:
                self.position, self.mismatches = self.position + number + 1, 0
                return step
            if operator_kind(step.op) != "clone" and kind == "clone":
                return None
        self.mismatches += kind != "clone"
        self.mismatch_module = self.stack[-1]
        if self.mismatches > _MAX_MISMATCHES:
            raise TsdistillError("the model takes another path through its code than in the trace")
        return None

    def kept_coordinates(self, drawn: Drawn, gone: np.ndarray | None) -> list[np.ndarray | None]:
        """Which coordinates of a random tensor stay, by dimension; ``None`` where all do."""
        if gone is None:
            return [None] * len(drawn.shape)
        return [None if labels is None else self.record.keeps(labels, gone) for labels in drawn.labels]

    def seed(self, step: Step) -> int:
        """Of the numbers that a random operator gives, the same in every run beside the trace."""
        return self.record.places[id(step)]

    def _find_back(self) -> None:
        """After other operators than the trace's, go on where the trace enters the module that now runs."""
        steps, running = self.record.trace.steps, self.stack[-1]
        if not self.mismatches or running == self.mismatch_module:
            return
        ahead = range(self.position, len(steps))
        found = next((place for place in ahead if steps[place].module == running), None)
        if found is not None:
            self.position, self.mismatches = found, 0

    def upcoming(self) -> Sequence[Step]:
        """The next steps, as far as they belong to the module whose turn it is."""
        steps = self.record.trace.steps[self.position : self.position + _LOOKAHEAD]
        return list(takewhile(lambda s: s.module == steps[0].module or operator_kind(s.op) == "clone", steps))


@cache
def operator_kind(op: str) -> str:
    """The name of an operator without its overload, the same for all views."""
    name = op.removeprefix("aten.").partition(".")[0]
    return "view" if name in ("view", "_unsafe_view", "_reshape_alias") else name
