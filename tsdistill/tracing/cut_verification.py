"""Checks of a cut: against the whole model with the removed nodes zeroed where they are read, and in use."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.runtime.modes import Inputs, evaluation_in_use, operator_name, plain_evaluation, run
from tsdistill.runtime.module_names import module_names
from tsdistill.runtime.nests import mapped, tensors
from tsdistill.runtime.unchanged import preserved_models
from tsdistill.tracing.additional_runs import runs_in_training
from tsdistill.tracing.labels import Labels
from tsdistill.tracing.model_copy import deepcopy_model
from tsdistill.tracing.output_tolerance import LENIENT, STRICT, difference
from tsdistill.tracing.replay import CutRun, replay
from tsdistill.tracing.sibling_modules import run_all
from tsdistill.tracing.trace_aligner import TraceAligner, operator_kind
from tsdistill.tracing.trace_record import Record, Step

_PRODUCTS = frozenset(("mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot", "vdot", "convolution"))
"""Operators whose sums are over products of two operands."""

_MANY_ROWS = 128
"""Least number of rows of a matrix product for which coordinates are taken out of both operands. At 196
rows that was measured to cost less than a product with zeros, at 64 more (384 to 3072 columns, one core)."""


class _MaskedRun(TraceAligner):
    """Runs the whole model; sums leave removed nodes out, statistics run over the nodes that stay."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        step = self.next(operator_name(func))
        if step is None:
            return func(*args, **(kwargs or {}))
        repeated = self.repeated(func, args, kwargs or {}, step, whole=True)
        if repeated is not None:
            return repeated
        out = self._computed(func, step, list(args), kwargs or {})
        if self.record.judges(step):
            self.compared += tensors(out)
        return out

    def _computed(self, func: Any, step: Step, args: list, kwargs: dict) -> Any:
        summed = [
            (place, dim, stays)
            for place, dim, labels in step.contracted
            if not (stays := self._stays(labels)).all()
        ]
        if summed and not _leave_out(step.op, args, summed):
            for place, dim, stays in _smallest(step.op, args, summed):
                args[place] = args[place] * _along(stays, dim, args[place])
        spans = [(dim, stays) for _, dim, labels in step.spans if not (stays := self._stays(labels)).all()]
        if spans:
            return self._statistics(func, step, args, kwargs, spans)
        return func(*args, **kwargs)

    def _stays(self, labels: np.ndarray) -> np.ndarray:
        return self.record.keeps(labels, self.gone)

    def _statistics(self, func: Any, step: Step, args: list, kwargs: dict, spans: list) -> Any:  # noqa: C901
        """The operator on the nodes that stay; where its result keeps the dimension, zeros for the others."""
        source = args[0]
        small = source
        for dim, stays in spans:
            small = small.index_select(dim, _where(stays, source))
        args[0] = small
        if "layer_norm" in step.op or "rms_norm" in step.op:
            shape = list(args[1])
            first = source.ndim - len(shape)
            args[1] = list(small.shape[first:])
            for dim, stays in spans:
                for place in (2, 3):
                    if place < len(args) and isinstance(args[place], torch.Tensor):
                        args[place] = args[place].index_select(dim - first, _where(stays, source))
        elif "group_norm" in step.op:
            ((_, stays),) = spans
            for place in (1, 2):
                if isinstance(args[place], torch.Tensor):
                    args[place] = args[place].index_select(0, _where(stays, source))
            for place, index, labels in step.sizes:
                if index is None and place in (4, 6):
                    args[place] = int(self._stays(labels).sum())
        elif "batch_norm" not in step.op:
            return func(*args, **kwargs)
        out = func(*args, **kwargs)
        result = out[0] if isinstance(out, tuple) else out
        whole = result
        for dim, stays in spans:
            shape = list(whole.shape)
            shape[dim] = len(stays)
            whole = whole.new_zeros(shape).index_copy(dim, _where(stays, source), whole)
        return (whole, *out[1:]) if isinstance(out, tuple) else whole


def _leave_out(op: str, args: list, summed: Sequence[tuple[int, int, np.ndarray]]) -> bool:
    """Take the coordinates that do not stay out of both operands of a convolution or a large product of
    matrices, which costs less than a product with zeros; False, with ``args`` as they are, for others."""
    name = operator_kind(op)
    operands: Sequence[tuple[int, int, np.ndarray]]
    if name == "convolution" and args[8] == 1:
        kernel = 0 if args[6] else 1
        operands = (0, 1, summed[0][2]), (1, kernel, summed[0][2])
    elif name in ("mm", "addmm") and len(summed) == 2 and np.array_equal(summed[0][2], summed[1][2]):
        operands = summed
        if args[operands[0][0]].shape[0] < _MANY_ROWS:
            return False
    else:
        return False
    for place, dim, stays in operands:
        args[place] = _selected(args[place], dim, stays)
    return True


def _selected(tensor: torch.Tensor, dim: int, stays: np.ndarray) -> torch.Tensor:
    """The coordinates that stay, with the dimensions in the same order in memory: on that order depends which
    operators run behind (the pooling of channels-last tensors, reshapes)."""
    order = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
    selected = tensor.permute(order).index_select(order.index(dim), _where(stays, tensor))
    return selected.permute(*np.argsort(order).tolist())


def _smallest(
    op: str, args: list, summed: Sequence[tuple[int, int, np.ndarray]]
) -> Sequence[tuple[int, int, np.ndarray]]:
    """Of two operands of a product that lose the same coordinates the smaller one: zeros in it are enough.
    Other operators, distances say, need them in both."""
    if operator_kind(op) in _PRODUCTS and len(summed) == 2 and np.array_equal(summed[0][2], summed[1][2]):
        return [min(summed, key=lambda operand: args[operand[0]].numel())]
    return summed


def _where(stays: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.flatnonzero(stays)).to(like.device)


def _along(stays: np.ndarray, dim: int, tensor: torch.Tensor) -> torch.Tensor:
    shape = [1] * tensor.ndim
    shape[dim] = -1
    return torch.from_numpy(stays).to(tensor.device, tensor.dtype).reshape(shape)


def reference(model: nn.Module, inputs: Inputs, record: Record, gone: np.ndarray) -> list[torch.Tensor]:
    """Outputs of the whole ``model`` with the removed nodes zeroed where they are read, behind those inside
    it that are judged, too."""
    mode = _MaskedRun(record, gone)
    with plain_evaluation(model), module_names(model, mode.stack), mode:
        output = run_all(model, inputs, record.companions)
    first = len(output) - len(record.trace.companion_labels)
    companions = zip(output[first:], record.trace.companion_labels, strict=True)
    return [*mode.compared, *output[:first], *(_kept(record, gone, *pair) for pair in companions)]


def _kept(record: Record, gone: np.ndarray, tensor: torch.Tensor, labels: Labels) -> torch.Tensor:
    """The coordinates of ``tensor`` that a cut leaves."""
    for dim, along in enumerate(labels):
        if along is not None:
            tensor = tensor.index_select(dim, _where(record.keeps(along, gone), tensor))
    return tensor


def disagreement(run: CutRun, model: nn.Module, output: Sequence[torch.Tensor]) -> str | None:
    """What differs between the ``output`` of a replay of a cut model and the reference, or None.

    Where they differ, both run once more in float64, and that decides: a network that nobody has trained may
    blow rounding in float32 up to anything. A model that cannot run in float64 is judged as it is, and less
    strictly.

    Args:
        run: of the cut model.
        model: the whole model.
        output: of the replay.
    """
    wanted = reference(model, run.inputs, run.record, run.gone)
    if difference(list(output), wanted, STRICT) is None:
        return None
    wide = mapped(run.inputs, lambda t: t.double() if t.is_floating_point() else t)
    with suppress(TsdistillError):
        again = replay(deepcopy_model(run.model).double(), wide, run.record, run.gone)
        if again.clean:
            exact = reference(deepcopy_model(model).double(), wide, run.record, run.gone)
            return difference(list(again.output), exact, STRICT)
    return difference(list(output), wanted, LENIENT)


def failure_in_use(
    small: nn.Module, model: nn.Module, inputs: Inputs, *, training: bool = True
) -> str | None:
    """What fails when a user runs ``small`` and does not when the user runs ``model``; None if nothing does.

    The checks of a cut run plain operators, because these can be followed. A user's forward takes the fused
    path of ``nn.TransformerEncoderLayer``, and trains. ``model`` is run only where ``small`` fails. Both are
    left as they were.

    Args:
        small: the cut model.
        model: the model that it was cut from.
        inputs: one input (batch 1); training mode gets it twice where once is not enough.
        training: whether training mode is tried, too. It need not be where no code but PyTorch's own modules
            reads the mode: then the same operators run in both, but for dropout and the statistics of norms.
    """
    with preserved_models(small, model):
        cause = _evaluation_failure(small, inputs)
        if cause is not None and _evaluation_failure(model, inputs) is None:
            return f"in inference mode, with the kernels that PyTorch chooses, {cause}"
        if (
            training
            and not runs_in_training(small, inputs)
            and runs_in_training(deepcopy_model(model), inputs)
        ):
            return "its forward fails in training mode"
    return None


def _evaluation_failure(model: nn.Module, inputs: Inputs) -> str | None:
    """The error of a forward with fused kernels, or how far its outputs are from those of plain operators."""
    try:
        with evaluation_in_use(model):
            output = run(model, inputs)
    except TsdistillError as error:
        return str(error)
    if not any(isinstance(module, nn.MultiheadAttention) for module in model.modules()):
        return None  # the same operators ran before
    with plain_evaluation(model):
        wanted = run(model, inputs)
    return difference([tensor.clone() for tensor in output], wanted, LENIENT)
