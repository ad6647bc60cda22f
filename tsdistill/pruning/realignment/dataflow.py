"""What happens to a layer's output next: per-channel scaling, an addition to a stream, a non-linearity."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsdistill.runtime.calls import Call, Calls
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks

_SAME = frozenset(("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "clone", "contiguous"))
_MOVES = frozenset(("permute", "transpose", "movedim", "swapaxes", "moveaxis"))
_SCALES = frozenset(("mul", "mul_", "__mul__", "__rmul__", "__imul__", "div", "__truediv__", "div_"))
_ADDS = frozenset(("add", "add_", "__add__", "__radd__", "__iadd__"))
_ACTIVATIONS = frozenset(
    (
        "relu",
        "relu_",
        "relu6",
        "hardtanh",
        "hardtanh_",
        "leaky_relu",
        "leaky_relu_",
        "silu",
        "gelu",
        "hardswish",
    )
)


@dataclass(frozen=True, eq=False)
class PostOps:
    """The operations on a layer's output up to its non-linearity, none of which mixes channels.

    Attributes:
        output: the output that was seen; the first call of ``affine`` takes it.
        affine: calls that scale, shift and move entries, the first one taking ``output``.
        residual: number of the call whose result is added after ``affine``, ``None`` when nothing is.
        activation: the non-linearity after that, as a call.
        ends: the result after all of that.
    """

    output: Tensor
    affine: tuple[Call, ...] = ()
    residual: int | None = None
    activation: Call | None = None
    ends: Tensor | None = None

    @property
    def moves(self) -> bool:
        """Whether ``affine`` changes the order of dimensions."""
        return any(call.name in _MOVES for call in self.affine)

    def through(self, y: Tensor) -> Tensor:
        """``y`` (shaped as the layer's output, any batch) after ``affine``."""
        current = self.output
        for call in self.affine:
            y = call.again(current, y)
            current = call.output
        return y

    def through_activation(self, z: Tensor) -> Tensor:
        """``z`` after the non-linearity."""
        if self.activation is None:
            return z
        call = self.activation
        if call.name in ("relu_", "hardtanh_", "leaky_relu_"):
            z = z.clone()
        kwargs = {key: value for key, value in call.kwargs.items() if key != "inplace"}
        if call.name in ("relu", "relu_"):
            return F.relu(z)
        return call.function(z, *call.args[1:], **kwargs)


@dataclass(frozen=True, eq=False)
class Flow:
    """One forward written down.

    Attributes:
        order: the layers in question that ran exactly once and gave one tensor, in forward order.
        inputs: their first inputs.
        downstream: what happens to their outputs.
        passed: what modules with modules inside gave, those that ran once, took one tensor and gave one.
    """

    order: tuple[str, ...]
    inputs: Mapping[str, Tensor]
    downstream: Mapping[str, PostOps]
    passed: Mapping[str, Tensor]


def flow(model: nn.Module, names: Collection[str], x: Any) -> Flow:
    """Run ``model`` (at rest) and follow the outputs of the layers ``names``.

    A forward goes before: what modules compute once and keep is computed by none that comes later.
    """
    with torch.no_grad():
        forward(model, x)
    outputs: dict[str, list[Any]] = {}
    modules = dict(model.named_modules())
    calls = Calls()
    starts: dict[str, int] = {}
    inputs: dict[str, Any] = {}
    passed: dict[str, list[Any]] = {}

    def record_block(call: ModuleCall) -> None:
        alone = len(call.args) == 1 and isinstance(call.args[0], Tensor) and not call.kwargs
        passed.setdefault(call.name, []).append(call.output if alone else None)

    def record_layer(call: ModuleCall) -> None:
        outputs.setdefault(call.name, []).append(call.output)
        inputs[call.name] = call.first
        starts[call.name] = len(calls.calls)

    blocks = {name: module for name, module in modules.items() if name and any(module.children())}
    layers = ModuleHooks({name: modules[name] for name in names}, after=record_layer)
    with layers, ModuleHooks(blocks, after=record_block), torch.no_grad(), calls:
        forward(model, x)
    fixed = {id(t) for t in (*model.parameters(), *model.buffers())}
    order = tuple(
        name
        for name, results in outputs.items()
        if len(results) == 1 and isinstance(results[0], Tensor) and isinstance(inputs[name], Tensor)
    )
    downstream = {name: _follow(outputs[name][0], starts[name], calls.calls, fixed) for name in order}
    whole = {name: gave[0] for name, gave in passed.items() if len(gave) == 1 and isinstance(gave[0], Tensor)}
    return Flow(order, inputs, downstream, whole)


def _follow(output: Tensor, start: int, calls: list[Call], fixed: Collection[int]) -> PostOps:
    affine: list[Call] = []
    residual: int | None = None
    current = output
    for _ in range(12):
        users = [call for call in calls[start:] if any(t is current for t in call.tensors())]
        if not users or (len(users) > 1 and users[0].output is not current):
            break
        call = users[0]
        start = calls.index(call) + 1
        rest = [t for t in call.tensors() if t is not current]
        if call.name in _ACTIVATIONS and not rest:
            return PostOps(output, tuple(affine), residual, call, call.output)
        if not isinstance(call.output, Tensor) or residual is not None:
            break
        if call.name in _ADDS and len(rest) == 1 and rest[0].shape == current.shape:
            number = _producer(rest[0], calls, output)
            if number is None or call.kwargs.get("alpha", 1) != 1:
                break
            residual, current = number, call.output
        elif _is_plain(call, current, rest, fixed):
            affine.append(call)
            current = call.output
        else:
            break
    return PostOps(output, tuple(affine), residual, None, current)


def _is_plain(call: Call, current: Tensor, rest: list[Tensor], fixed: Collection[int]) -> bool:
    """Whether a call scales, shifts or moves the entries of ``current`` by what does not depend on data."""
    if call.name == "batch_norm":
        return call.args[0] is current and not _in_training_mode(call)
    if any(id(t) not in fixed for t in rest):
        return False
    if call.name in _SCALES:
        return not call.name.endswith(("div", "truediv__", "div_")) or call.args[0] is current
    if call.name in _SAME or call.name in _MOVES:
        return not rest
    return False


def _in_training_mode(call: Call) -> bool:
    training = call.kwargs.get("training", call.args[5] if len(call.args) > 5 else False)
    return bool(training)


def _producer(tensor: Tensor, calls: list[Call], before: Tensor) -> int | None:
    """Number of the last call that gave ``tensor``, if that was before ``before`` was made."""
    end = next(i for i, call in enumerate(calls) if call.output is before)
    results = [call.number for call in calls[:end] if call.output is tensor]
    return results[-1] if results else None
