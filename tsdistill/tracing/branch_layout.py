"""What takes the place of each module of a removed branch: read off runs on inputs of several sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.models.replacements import Replacement, SizeRule
from tsdistill.runtime.modes import Inputs
from tsdistill.runtime.nests import mapped, repeated
from tsdistill.tracing.branches import Branch, BranchOutput
from tsdistill.tracing.data_flow import DataFlow, FlowCall, Operand, data_flow
from tsdistill.tracing.trace_aligner import operator_kind

_SPREADING = frozenset(
    (
        "add",
        "sub",
        "mul",
        "div",
        "addcmul",
        "permute",
        "transpose",
        "t",
        "clone",
        "_to_copy",
        "detach",
        "alias",
    )
)
"""Operators behind a branch's last module that take an operand of size 1 in any dimension."""

_MOST_PARTS = 64
"""Largest factor between an input's and an output's size that is looked for: strides of whole branches are
powers of two up to 32."""


def probes(model: nn.Module, example: Inputs) -> Iterator[DataFlow]:
    """Runs on the example twice, and on samples of other sizes, as far as the model takes them."""
    for inputs in (repeated(example, 2), mapped(example, _one_more), mapped(example, _twice_as_long)):
        with suppress(TsdistillError):
            yield data_flow(model, inputs)


def _one_more(tensor: torch.Tensor) -> torch.Tensor:
    """Maps with one more row and column: an odd size says how strides round."""
    if not tensor.is_floating_point() or tensor.ndim < 3:
        return tensor
    for dim in range(2, tensor.ndim):
        tensor = torch.cat((tensor, tensor.narrow(dim, 0, 1)), dim)
    return tensor


def _twice_as_long(tensor: torch.Tensor) -> torch.Tensor:
    """Maps of twice the size, sequences of twice the length."""
    first = 2 if tensor.is_floating_point() and tensor.ndim > 3 else 1
    for dim in range(first, tensor.ndim):
        if tensor.ndim == 3 and tensor.is_floating_point() and dim == 2:
            break
        tensor = torch.cat((tensor, tensor), dim)
    return tensor


class BranchLayout:
    """Finds what takes the place of modules.

    Args:
        flow: of a run on the example.
        others: of runs on inputs of other sizes.
    """

    def __init__(self, flow: DataFlow, others: Sequence[DataFlow]) -> None:
        self._flow, self._others = flow, others

    def replacements(
        self, branch: Branch, channels: Mapping[str, int], *, spread: bool = True
    ) -> list[Replacement]:
        """One for each of the branch's modules.

        Args:
            branch: a branch of the model.
            channels: the last modules that give values -> how many; the others give zeros.
            spread: let what is added to the stream be of size 1 in all dimensions but that of channels, where
                the operators behind take that.

        Raises:
            TsdistillError: what a module gives cannot be given by another one.
        """
        ends = {output.module: output for output in branch.outputs}
        return [
            self._last(ends[name], channels.get(name, 0), spread) if name in ends else self._other(name)
            for name in branch.modules
        ]

    def _behind(self, step: int, call: FlowCall) -> list[int]:
        return [reader for reader in self._flow.consumers[step] if reader >= call.end]

    def _other(self, name: str) -> Replacement:
        calls = self._flow.calls_of[name]
        source = _source(name, calls)
        alike = all(
            call.form == "tensor" and _shape(call.outputs[0]) == call.inputs[source].shape
            for call in self._all_calls(name)
        )
        if alike and not any(call.written for call in calls):
            return Replacement(name, source, passes=True)
        sizes = self._sizes(name, source)
        return Replacement(
            name, source, form=calls[0].form, sizes=sizes, place=-1, writable=any(c.written for c in calls)
        )

    def _last(self, output: BranchOutput, channels: int, spread: bool) -> Replacement:
        name, axis = output.module, output.axis
        calls = self._flow.calls_of[name]
        source = _source(name, calls)
        operand = calls[0].outputs[output.place]
        written = any(call.written for call in calls)
        small = spread and not written and calls[0].form == "tensor" and self._spreads(calls)
        return Replacement(
            name,
            source,
            form=calls[0].form,
            sizes=() if small else self._sizes(name, source),
            rank=len(_shape(operand)),
            place=output.place,
            axis=axis,
            channels=channels,
            writable=written,
        )

    def _spreads(self, calls: Sequence[FlowCall]) -> bool:
        """Whether all operators between the calls and the sum take an operand of size 1."""
        for call in calls:
            (output,) = call.outputs
            pending = [] if output is None or output.step is None else self._behind(output.step, call)
            while pending:
                number = pending.pop()
                if number >= len(self._flow.steps):
                    return False
                step = self._flow.steps[number]
                if operator_kind(step.op) not in _SPREADING:
                    return False
                if not step.sides:
                    pending += self._flow.consumers[number]
        return True

    def _all_calls(self, name: str) -> list[FlowCall]:
        return [call for flow in (self._flow, *self._others) for call in flow.calls_of.get(name, ())]

    def _sizes(self, name: str, source: int | str) -> tuple[tuple[SizeRule, ...] | None, ...]:
        calls = [call for call in self._all_calls(name) if source in call.inputs]
        if any(len(call.outputs) != len(calls[0].outputs) for call in calls):
            raise TsdistillError(f"{name} gives another number of tensors for other inputs")
        return tuple(
            None
            if first is None
            else self._rules(name, [(c.inputs[source].shape, _shape(c.outputs[place])) for c in calls], first)
            for place, first in enumerate(calls[0].outputs)
        )

    def _rules(
        self, name: str, shapes: list[tuple[tuple[int, ...], tuple[int, ...]]], first: Operand
    ) -> tuple[SizeRule, ...]:
        axis = None if first.step is None else self._flow.steps[first.step].axis
        rules = []
        for dim in range(len(first.shape)):
            pairs = [(x, y[dim]) for x, y in shapes if len(y) == len(first.shape)]
            rule = _size_rule(dim, len(first.shape), pairs, channels=dim == axis)
            if rule is None and not self._flow.is_read(first, self._flow.calls_of[name][0]):
                rule = (first.shape[dim],)
            if rule is None:
                raise TsdistillError(
                    f"how many entries {name} gives along dimension {dim} follows no simple rule"
                )
            rules.append(rule)
        return tuple(rules)


def _shape(operand: Operand | None) -> tuple[int, ...]:
    return () if operand is None else operand.shape


def _source(name: str, calls: Sequence[FlowCall]) -> int | str:
    """The first floating argument of every call.

    Raises:
        TsdistillError: there is none.
    """
    keys = [key for key, operand in calls[0].inputs.items() if operand.floating]
    shared = [key for key in keys if all(key in call.inputs for call in calls)]
    if not shared:
        raise TsdistillError(f"no argument of {name} is an activation")
    return shared[0]


def _size_rule(
    dim: int, rank: int, pairs: Sequence[tuple[tuple[int, ...], int]], *, channels: bool
) -> SizeRule | None:
    """The rule that gives a size of an output from the sizes of the input, in all runs.

    Args:
        dim: the dimension of the output.
        rank: its number of dimensions.
        pairs: shape of the input, and size of the output, run by run.
        channels: whether this is the dimension of channels, whose size goes with that of the input.
    """
    ins = min(len(shape) for shape, _ in pairs)
    order = [d for d in (dim, dim - rank + ins, *range(ins)) if 0 <= d < ins]
    varies = len({size for _, size in pairs}) > 1
    for d in order:
        if all(shape[d] == size for shape, size in pairs) and (d in order[:2] or varies):
            return d, 1, 1, 0
    if not varies and not channels:
        return (pairs[0][1],)
    for d in order if varies else order[:2]:
        for up in (1, 0):
            for parts in range(1, _MOST_PARTS + 1):
                if all((shape[d] + up * (parts - 1)) // parts == size for shape, size in pairs):
                    return d, 1, parts, up
        times = {size // max(shape[d], 1) for shape, size in pairs}
        if len(times) == 1 and all(shape[d] * max(times) == size for shape, size in pairs):
            return d, *times, 1, 0
    return None if varies else (pairs[0][1],)
