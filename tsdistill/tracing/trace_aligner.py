"""Alignment of a run with a trace: for each operator the step of the trace that it repeats."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import takewhile
from typing import Any

import numpy as np
import torch

from tsdistill.errors import TsdistillError
from tsdistill.runtime.modes import OperatorMode
from tsdistill.runtime.randomness import draw, draws
from tsdistill.tracing.data_dependent import apply_choices
from tsdistill.tracing.trace_record import Record, Step

_LOOKAHEAD, _MAX_MISMATCHES = 12, 64
"""Number of next steps among which an operator is looked for (reshapes and products add or drop a few
operators when strides change), and number of operators without a step after which the run is given up."""


class TraceAligner(OperatorMode):
    """A dispatch mode that aligns a run with the trace of ``record``.

    Attributes:
        record: of the traced model.
        gone: bool [nodes], the removed nodes.
        position: number of the next step of the trace.
        mismatches: number of operators since the last one that had a step.
        mismatch_module: the module in which the last of them ran.
        stack: names of the running modules, the innermost last.
        compared: tensors, besides the output, by which the run is compared with another.
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

    def repeated(
        self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], step: Step, *, whole: bool
    ) -> Any:
        """The result of an operator that chooses by values, or that draws random numbers, as in the trace;
        ``None`` of any other operator.

        Args:
            func: the operator.
            args: its arguments.
            kwargs: its keyword arguments.
            step: the step of the trace that it repeats.
            whole: whether the whole model runs, and random tensors have all their coordinates.
        """
        if self.record.forces(step):
            return apply_choices(func, args, kwargs, step.chosen)
        if step.drawn is None or not draws(func):
            return None
        stays = [
            None if whole or labels is None else self.record.keeps(labels, self.gone)
            for labels in step.drawn.labels
        ]
        return draw(func, args, kwargs, step.drawn, stays, self.record.places[id(step)])

    def _find_back(self) -> None:
        """After mismatches, continue where the trace enters the running module."""
        steps, running = self.record.trace.steps, self.stack[-1]
        if not self.mismatches or running == self.mismatch_module:
            return
        ahead = range(self.position, len(steps))
        place = next((place for place in ahead if steps[place].module == running), None)
        if place is not None:
            self.position, self.mismatches = place, 0

    def upcoming(self) -> Sequence[Step]:
        """The next steps, as far as they belong to the next module."""
        steps = self.record.trace.steps[self.position : self.position + _LOOKAHEAD]
        return list(takewhile(lambda s: s.module == steps[0].module or operator_kind(s.op) == "clone", steps))


@cache
def operator_kind(op: str) -> str:
    """The name of an operator without its overload, the same for all views."""
    name = op.removeprefix("aten.").partition(".")[0]
    return "view" if name in ("view", "_unsafe_view", "_reshape_alias") else name
