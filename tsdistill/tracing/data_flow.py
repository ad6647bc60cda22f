"""The data flow of one forward: which operators read what others gave, and in which calls of modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import ref

import torch
from torch import nn
from torch.utils.flop_counter import flop_registry

from tsdistill.models.layers.call_kinds import CallLayer
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import Inputs, OperatorMode, guarded, judged, operator_name, plain_evaluation
from tsdistill.runtime.nests import tensors
from tsdistill.torch_private import (
    StorageWeakRef,
    is_batched,
    mutated_arguments,
    named_modules_of,
    storage_key,
)
from tsdistill.tracing.channel_axis import channel_axis

SUMS = ("aten.add.Tensor", "aten.add_.Tensor", "aten.addcmul.default", "aten.addcmul_.default")
"""Operators that add one activation to another (or to the product of two)."""

INPUT = "input"
"""The operator of a step that stands for a tensor of the model's input."""


@dataclass(eq=False)
class FlowStep:
    """One operator of the forward.

    Attributes:
        op: full name of the operator, or `INPUT`.
        module: dotted name of the innermost module that was running.
        sources: the steps that gave what it reads, ascending. Parameters and buffers have no step.
        shape: of its first result.
        floating: whether that is of a floating type.
        data: whether it depends on the model's input.
        weighted: whether it multiplies data by a weight (a matrix product or a convolution).
        macs: its multiply-accumulates.
        sides: of a sum, the steps behind each of its summands; empty for other operators.
        writes: whether it writes into one of its operands.
        axis: the dimension of the result that holds channels, ``None`` where that is not known.
    """

    op: str
    module: str
    sources: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    floating: bool = False
    data: bool = False
    weighted: bool = False
    macs: int = 0
    sides: tuple[tuple[int, ...], ...] = ()
    writes: bool = False
    axis: int | None = None


@dataclass(frozen=True)
class Operand:
    """A tensor that goes into a module, or comes out.

    Attributes:
        step: the step that gave it, ``None`` where it is a parameter or a constant.
        shape: its shape.
        floating: whether it is of a floating type.
    """

    step: int | None
    shape: tuple[int, ...]
    floating: bool


@dataclass(eq=False)
class FlowCall:
    """One call of a module.

    Attributes:
        module: its dotted name.
        first: number of the first step behind its start.
        end: number of the first step behind its end.
        inputs: its arguments that are tensors, by position or keyword.
        form: ``"tensor"``, ``"tuple"`` or ``"list"``; empty where it gives something else.
        outputs: what it gives, an entry ``None`` where a tuple or list holds ``None``.
        written: whether an operator behind its end writes into what it gave.
    """

    module: str
    first: int
    end: int = -1
    inputs: dict[int | str, Operand] = field(default_factory=dict)
    form: str = ""
    outputs: tuple[Operand | None, ...] = ()
    written: bool = False

    @property
    def replaceable(self) -> bool:
        """Whether another module can give what this call gives: tensors, for an activation among others."""
        return bool(self.form) and any(operand.floating for operand in self.inputs.values())


@dataclass(frozen=True, eq=False)
class DataFlow:
    """The record of one forward.

    Attributes:
        steps: the tensors of the input, and the operators in order.
        calls: the calls of modules, in the order in which they ended.
        outputs: the steps that gave the model's output.
        inputs: number of tensors of the input.
    """

    steps: list[FlowStep]
    calls: list[FlowCall]
    outputs: tuple[int, ...]
    inputs: int

    @cached_property
    def consumers(self) -> list[list[int]]:
        """For every step those that read what it gave, without those on which no output depends."""
        readers: list[list[int]] = [[] for _ in self.steps]
        for number, step in enumerate(self.steps):
            if self.live[number]:
                for source in step.sources:
                    readers[source].append(number)
        for number in self.outputs:
            readers[number].append(len(self.steps))
        return readers

    @cached_property
    def live(self) -> list[bool]:
        """For every step whether the model's output, or what Python code reads of a tensor, depends on it."""
        live = [False] * len(self.steps)
        for number in self.outputs:
            live[number] = True
        for number in range(len(self.steps) - 1, -1, -1):
            step = self.steps[number]
            if live[number] or step.op.startswith("aten._local_scalar_dense"):
                live[number] = True
                for source in step.sources:
                    live[source] = True
        return live

    @cached_property
    def calls_of(self) -> dict[str, list[FlowCall]]:
        """The calls of every module that ran, by its name."""
        calls: dict[str, list[FlowCall]] = {}
        for call in self.calls:
            calls.setdefault(call.module, []).append(call)
        return calls

    def is_read(self, output: Operand, call: FlowCall) -> bool:
        """Whether operators behind a call read this output of it."""
        return output.step is not None and any(n >= call.end for n in self.consumers[output.step])

    def ancestors(self, numbers: Iterable[int]) -> set[int]:
        """These steps and all whose results they depend on."""
        reached: set[int] = set()
        pending = list(numbers)
        while pending:
            number = pending.pop()
            if number not in reached:
                reached.add(number)
                pending += self.steps[number].sources
        return reached


def data_flow(model: nn.Module, inputs: Inputs) -> DataFlow:
    """Run ``model`` once in evaluation mode and record its data flow.

    Attention runs in plain operators, so that every product is a step.

    Args:
        model: the model; it is left as it was.
        inputs: a tensor, a tuple of arguments or a dict of keyword arguments.

    Raises:
        TsdistillError: the forward fails.
    """
    mode = _FlowMode(inputs)
    modules = {
        name: module
        for name, module in named_modules_of(model)
        if name and not isinstance(module, torch.jit.ScriptModule | CallLayer)
    }
    with (
        plain_evaluation(model, scales=True),
        ModuleHooks(modules, before=mode.enter, after=mode.leave),
        mode,
    ):
        output = guarded(model, inputs)
    outputs = {place for tensor in tensors(judged(output)) if (place := mode.place(tensor)) is not None}
    return DataFlow(mode.steps, mode.calls, tuple(sorted(outputs)), mode.inputs)


class _FlowMode(OperatorMode):
    """Records steps and calls. Tensors are not held: a forward needs no more memory than by itself. A weak
    reference to a storage keeps its key from being that of another one."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.steps: list[FlowStep] = []
        self.calls: list[FlowCall] = []
        self._running: list[FlowCall] = []
        self._places: dict[int, tuple[ref[torch.Tensor], int]] = {}
        self._storages: dict[
            int | None, tuple[StorageWeakRef, int]
        ] = {}  # which keeps a key from coming again
        self._outputs: dict[int | None, list[FlowCall]] = {}
        for tensor in tensors(inputs):
            shape = tuple(tensor.shape)
            self._place(tensor, len(self.steps), owns=True)
            self.steps.append(FlowStep(INPUT, "", (), shape, tensor.is_floating_point(), data=True))
        self.inputs = len(self.steps)

    def place(self, tensor: torch.Tensor) -> int | None:
        """The step that gave ``tensor`` or wrote into its memory last."""
        known = self._places.get(id(tensor))
        own = known[1] if known is not None and known[0]() is tensor else None
        _, shared = self._storages.get(_storage(tensor), (None, None))
        if own is None or shared is None:
            return shared if own is None else own
        return max(own, shared) if self.steps[shared].writes else own

    def _place(self, tensor: torch.Tensor, number: int, *, owns: bool) -> None:
        """Note that step ``number`` gave ``tensor``, and its memory where it ``owns`` that."""
        self._places[id(tensor)] = ref(tensor), number
        key = _storage(tensor)
        if key is not None and owns:
            self._storages[key] = StorageWeakRef(tensor.untyped_storage()), number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = tensors((args, kwargs) if kwargs else args)
        places = [self.place(tensor) for tensor in operands]
        written = tensors(mutated_arguments(func, args, kwargs))
        out = func(*args, **kwargs)
        results = tensors(out)
        first = results[0] if results else None
        number = len(self.steps)
        sources = tuple(sorted({place for place in places if place is not None}))
        data = [place is not None and self.steps[place].data for place in places]
        step = FlowStep(
            operator_name(func),
            self._running[-1].module if self._running else "",
            sources,
            () if first is None else tuple(first.shape),
            first is not None and first.is_floating_point(),
            any(data),
            macs=_macs(func, args, kwargs, out),
            writes=bool(written),
        )
        step.weighted = step.data and step.macs > 0 and not all(data)
        read = [(self.steps[place].shape, self.steps[place].axis) for place in sources]
        step.axis = channel_axis(step.op, args, step.shape, read)
        step.sides = _sides(step.op, places, data, operands)
        self.steps.append(step)
        shared = {_storage(tensor) for tensor in operands}
        for tensor in results:
            self._place(tensor, number, owns=_storage(tensor) not in shared)
        for tensor in written:
            self._place(tensor, number, owns=True)
            for call in self._outputs.get(_storage(tensor), ()):
                call.written = True
        return out

    def enter(self, call: ModuleCall) -> None:
        """A module begins to run."""
        record = FlowCall(call.name, len(self.steps))
        arguments: list[tuple[int | str, Any]] = [*enumerate(call.args), *call.kwargs.items()]
        for key, value in arguments:
            if isinstance(value, torch.Tensor):
                record.inputs[key] = self._operand(value)
        self._running.append(record)

    def leave(self, call: ModuleCall) -> None:
        """A module has run."""
        record = self._running.pop()
        record.end = len(self.steps)
        output = call.output
        if isinstance(output, torch.Tensor):
            record.form, record.outputs = "tensor", (self._operand(output),)
        elif type(output) in (tuple, list) and all(x is None or isinstance(x, torch.Tensor) for x in output):
            record.form = type(output).__name__
            record.outputs = tuple(None if x is None else self._operand(x) for x in output)
        for tensor in tensors(output) if record.form else ():
            self._outputs.setdefault(_storage(tensor), []).append(record)
        self.calls.append(record)

    def _operand(self, tensor: torch.Tensor) -> Operand:
        return Operand(self.place(tensor), tuple(tensor.shape), tensor.is_floating_point())


def _storage(tensor: torch.Tensor) -> int | None:
    """What tensors that share memory have in common; ``None`` for those without memory of their own."""
    if is_batched(tensor) or tensor.layout != torch.strided:
        return None
    return storage_key(tensor.untyped_storage())


def _macs(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    count = flop_registry.get(getattr(func, "overloadpacket", None))
    return 0 if count is None else int(count(*args, **kwargs, out_val=out)) // 2


def _sides(
    op: str, places: list[int | None], data: list[bool], operands: list[torch.Tensor]
) -> tuple[tuple[int, ...], ...]:
    """The steps behind each summand of a sum of floating data; none of another operator."""
    if op not in SUMS or not all(data[:1]) or not all(tensor.is_floating_point() for tensor in operands):
        return ()
    summands = (places[:1], places[1:])
    sides = tuple(tuple(sorted({p for p in part if p is not None})) for part in summands)
    return sides if any(data[1:]) else ()


def steps_of(calls: Iterable[FlowCall]) -> Iterator[int]:
    """The steps that ran in these calls."""
    for call in calls:
        yield from range(call.first, call.end)
