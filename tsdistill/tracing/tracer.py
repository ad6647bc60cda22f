"""Runs a model once and carries labels beside every tensor, through the model's own operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import ref

import numpy as np
import torch
from torch import nn

from tsdistill.runtime.modes import Inputs, OperatorMode, factor, operator_name
from tsdistill.runtime.nests import tensors
from tsdistill.runtime.randomness import Drawn, draws
from tsdistill.torch_private import named_modules_of
from tsdistill.tracing import rules
from tsdistill.tracing.data_dependent import choices_of, scalar_choice
from tsdistill.tracing.labels import FIXED, Constraints, Labels, label_model
from tsdistill.tracing.trace_aligner import operator_kind
from tsdistill.tracing.trace_record import Contraction, Cost, Step, Trace


class Tracer(OperatorMode):
    """The dispatch mode. Rules (``rules/``) call its methods to read, unite and attach labels."""

    def __init__(
        self, model: nn.Module, constraints: Constraints | None = None, turn: str = "again "
    ) -> None:
        """Label the parameters of ``model``.

        Args:
            model: the model, or a copy of the one that ``constraints`` are of.
            constraints: those of an earlier run of the same model, which this one adds to.
            turn: prefix of the names of blocks of a further run.
        """
        super().__init__()
        rules.load()
        self.constraints = constraints or Constraints()
        self.steps: list[Step] = []
        self.contractions: list[Contraction] = []
        self.costs: list[Cost] = []
        self.unknown: dict[str, int] = {}
        self.stack: list[str] = [""]
        self.aligned: list[np.ndarray] = []
        self.read: dict[tuple[str, str], int] = {}
        self.reads_training = any(_sets_mode(module) for _, module in named_modules_of(model))
        self._labels: dict[int, tuple[ref[torch.Tensor], Labels]] = {}
        self._weights: dict[tuple, Labels] = {}
        self._data: dict[int, ref[torch.Tensor]] = {}
        self._made: torch.Tensor | None = None
        self._again = "" if constraints is None else turn
        self._ran: Counter[tuple[str, str]] = Counter()
        self._blocks = 0
        self.call = 0
        self.layer = ""
        self._joined: dict[tuple[int, tuple[int, ...]], tuple[np.ndarray, Labels]] = {}
        self._labelled = label_model(
            self.constraints, model
        )  # held, lest another tensor take the place of one
        named = {name for name, _ in model.named_parameters()}
        ends = (
            dim_labels.start + dim_labels.size
            for dim_labels in self.constraints.parameter_dims
            if dim_labels.param in named
        )
        self._parameters_end = max(ends, default=1)
        for tensor, labels in self._labelled:
            self._label(tensor, labels)
            self._weights[place_of(tensor)] = labels

    def mark_input(self, inputs: Inputs, *, known: bool = False) -> None:
        """Everything computed from these tensors (whose labels are ``known``) is an activation, no weight."""
        for tensor in tensors(inputs):
            if not known:
                self._label(tensor, (None,) * tensor.ndim)
            self._data[id(tensor)] = ref(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if (
            self._made is not None
            and args
            and args[0] is self._made
            and operator_name(func) == "aten.detach.default"
        ):
            self._hand_on(out)
            return out
        self.step = Step(operator_name(func), self.stack[-1], call=self.call)
        self.steps.append(self.step)
        self._ran[self.step.module, operator_kind(self.step.op)] += 1
        self._blocks = 0
        self.step.factor = factor(self.step.op, args)
        operands = tensors((args, kwargs) if kwargs else args)
        self._made = out if rules.make(self, func, args, out) else None
        if self._made is not None or not operands:
            self._note_draw(func, out)
            return out
        fields = [self.labels(t) for t in operands]
        self.step.touched = [f for field_ in fields for f in field_ if f is not None]
        outs = tensors(out)
        data = [t for t in operands if self.is_data(t)]
        if data:
            for result in outs:
                self._data[id(result)] = ref(result)
                if self._known(result) is None:
                    self._label(result, (None,) * result.ndim)
        if self.step.touched:
            rules.apply(self, func, args, kwargs, out)
        self._note_draw(func, out)
        if any(t.is_floating_point() for t in data):
            self.step.chosen = choices_of(self.step.op, outs) if outs else scalar_choice(out)
        if self.step.contracted or self.step.chosen:
            self.step.output_labels = [f for result in outs for f in self.labels(result) if f is not None]
        if "_like" in self.step.op:
            self._made = out
        return out

    def _note_draw(self, func: Any, out: Any) -> None:
        """Write down what a random operator has given."""
        outs = tensors(out)
        if draws(func) and outs:
            self.step.drawn = Drawn(tuple(outs[0].shape), self.labels(outs[0]))

    def _hand_on(self, out: torch.Tensor) -> None:
        """PyTorch detaches a new tensor to which the tracer holds a reference; no other forward does."""
        assert self._made is not None
        self._label(out, self.labels(self._made))
        self._data[id(out)] = ref(out)
        self._made = None

    def labels(self, tensor: torch.Tensor) -> Labels:
        """The labels of ``tensor``, one entry a dimension."""
        known = self._known(tensor)
        if known is not None:
            return known
        alias = self._weights.get(place_of(tensor)) if tensor.ndim else None
        labels = alias if alias is not None else (None,) * tensor.ndim
        self._label(tensor, labels)
        return labels

    def _label(self, tensor: torch.Tensor, labels: Labels) -> None:
        """Tensors are not held, so that a forward needs the memory that it needs by itself."""
        self._labels[id(tensor)] = (ref(tensor), labels)

    def _known(self, tensor: torch.Tensor) -> Labels | None:
        entry = self._labels.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def give(self, tensor: torch.Tensor, labels: Sequence[np.ndarray | None]) -> None:
        """Attach labels to a result; a dimension of size 1 carries none."""
        if len(labels) != tensor.ndim:
            raise AssertionError(f"{self.step.op}: {len(labels)} labels for {tensor.ndim} dimensions")
        kept = []
        for size, field_ in zip(tensor.shape, labels, strict=True):
            if size == 1 and field_ is not None:
                self.constraints.freeze(field_, f"a single coordinate is taken by {self.where}")
            kept.append(None if size == 1 or field_ is None or not field_.any() else field_)
        self._label(tensor, tuple(kept))

    def is_data(self, tensor: torch.Tensor) -> bool:
        """Does ``tensor`` depend on the model's input?"""
        entry = self._data.get(id(tensor))
        return entry is not None and entry() is tensor

    def precedence(self, tensor: torch.Tensor) -> tuple[bool, int]:
        """Sorts weights that are computed with one another: parameters before buffers, then by how many of
        their dimensions are labelled, most first."""
        labels = [field_ for field_ in self.labels(tensor) if field_ is not None]
        return not any(map(self.of_parameter, labels)), -len(labels)

    def of_parameter(self, labels: np.ndarray) -> bool:
        """Whether these are the labels of a parameter."""
        return bool(labels.size) and FIXED < int(labels[0]) < self._parameters_end

    @property
    def reader(self) -> str:
        """Name of the layer that multiplies: the running module, or the call that is a layer in it."""
        return self.layer or self.step.module

    @property
    def where(self) -> str:
        """The running operator and module, for people."""
        op = self.step.op.removeprefix("aten.").split(".")[0]
        return f"{op} in {self.step.module or 'the model itself'}"

    def unite(self, a: np.ndarray | None, b: np.ndarray | None) -> None:
        """Coordinates that meet go together; one that meets a full-size unlabelled dimension stays."""
        self.constraints.unite(a, b, f"meets a tensor that no layer writes ({self.where})")

    def freeze(self, labels: np.ndarray | None, cause: str) -> None:
        """These coordinates always stay; ``cause`` is completed by where it happened."""
        self.constraints.freeze(labels, f"{cause} ({self.where})")

    def frozen_along(self, tensor: torch.Tensor, dims: Iterable[int], cause: str) -> list[np.ndarray | None]:
        """The labels of ``tensor`` without those along ``dims``, which always stay.

        Args:
            tensor: what an operator is given.
            dims: dimensions, also counted from the end.
            cause: as in `freeze`.
        """
        fields = list(self.labels(tensor))
        for dim in dims:
            self.freeze(fields[dim], cause)
            fields[dim] = None
        return fields

    def size(self, argument: int, index: int | None, labels: np.ndarray | None) -> None:
        """An integer argument that counts the labels that stay."""
        if labels is not None and labels.any():
            self.step.sizes.append((argument, index, labels))

    def span(self, argument: int, dim: int, labels: np.ndarray | None) -> None:
        """Statistics are computed over this dimension of that argument."""
        if labels is not None:
            self.step.spans.append((argument, dim, labels))

    def contract(self, argument: int, dim: int, labels: np.ndarray | None) -> None:
        """The operator sums over this dimension of that argument."""
        if labels is not None:
            self.step.contracted.append((argument, dim, labels))

    def cost(self, coefficient: int, *factors: tuple[int, np.ndarray | None]) -> None:
        """MACs of the running operator."""
        self.costs.append(Cost(self.step.module, coefficient, factors))

    def block(self, whole: np.ndarray, factors: tuple[np.ndarray | None, ...]) -> None:
        """``whole`` stays exactly where all ``factors`` do; a factor of None always stays."""
        self._blocks += 1
        module, kind = self.step.module, operator_kind(self.step.op)
        count = self._ran[module, kind]
        self.constraints.block(whole, factors, f"{self._again}{module} {kind} {count}.{self._blocks}")

    def split(self, block: np.ndarray) -> list[np.ndarray | None]:
        """Labels ``block`` of several dimensions as one entry a dimension.

        Where the labels vary along one dimension only, they are that dimension's. Where they vary along
        several, each gets labels of its own and the block must stay rectangular.
        """
        key = (int(block.flat[0]), block.shape) if block.size else (FIXED, ())
        for known in (self._joined.get(key), self.constraints.splits.get(key)):
            if known is not None and np.array_equal(known[0], block):
                return list(known[1])
        varies = [d for d in range(block.ndim) if (block != block.take([0], axis=d)).any()]
        fields: list[np.ndarray | None] = [None] * block.ndim
        whole = block
        if not varies:
            if block.size and block.flat[0] != FIXED:
                self.freeze(np.unique(block), "one coordinate spread over a whole dimension")
            return fields
        for d in range(block.ndim):
            if d not in varies:
                block = block.take([0], axis=d)
        if len(varies) == 1:
            fields[varies[0]] = block.reshape(-1)
            return fields
        factors = []
        for d in varies:
            axis = self.constraints.new_labels(block.shape[d])
            fields[d] = axis
            factors.append(_spread(axis, d, block.shape).reshape(-1))
        self.block(block.reshape(-1), tuple(factors))
        self.constraints.splits[key] = (whole, list(fields))
        return fields

    def join(self, fields: Sequence[np.ndarray | None], shape: Sequence[int]) -> np.ndarray | None:
        """One array of labels over ``shape`` from one entry a dimension (the inverse of ``split``)."""
        labelled = [(d, f) for d, f in enumerate(fields) if f is not None]
        if not labelled:
            return None
        spread = [_spread(f, d, shape) for d, f in labelled]
        if len(spread) == 1:
            return np.broadcast_to(spread[0], shape)
        whole = self.constraints.new_labels(int(np.prod(shape)))
        self.block(whole, tuple(s.reshape(-1) for s in spread))
        self._joined[int(whole[0]), tuple(shape)] = (whole.reshape(shape), tuple(fields))
        return whole.reshape(shape)

    def note(self, module: str, attribute: str) -> None:
        """Note how many operators had run when an attribute was first read."""
        self.read.setdefault((module, attribute), len(self.steps))

    def note_mode(self) -> None:
        """Note that code read the training mode of a module."""
        self.reads_training = True

    def finish(self, output: Any) -> Trace:
        """Freeze what reaches the output and return the findings."""
        for tensor in tensors(output):
            for field_ in self.labels(tensor):
                self.constraints.freeze(field_, "reaches the model's output")
        return Trace(
            self.constraints,
            self.steps,
            self.contractions,
            self.costs,
            self.unknown,
            aligned=self.aligned,
            read=self.read,
            reads_training=self.reads_training,
        )


def _sets_mode(module: nn.Module) -> bool:
    """Whether the mode of a module is read out of sight: in a scripted forward, or when it is set."""
    return isinstance(module, torch.jit.ScriptModule) or type(module).train is not nn.Module.train


def _spread(axis: np.ndarray, dim: int, shape: Sequence[int]) -> np.ndarray:
    view = [1] * len(shape)
    view[dim] = len(axis)
    return np.broadcast_to(axis.reshape(view), tuple(shape))


def place_of(tensor: torch.Tensor) -> tuple:
    """What identifies a tensor (and its aliases): its place in memory, shape, strides and type."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype
