"""Inputs and outputs of a model's rectifiers in a forward pass, and the gradients with respect to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tsdistill.augmentation.rectifiers import by_node, run_with_callback
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.named_outputs import main_output
from tsdistill.runtime.forward import to_model
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks

SMOOTH = frozenset({"tanh", "sigmoid", "softmax", "softplus", "hardsigmoid", "scaled_dot_product_attention"})
"""Names of non-linear functions without a boundary: the theorems do not cover nodes behind them."""


@dataclass
class RectifierCall:
    """One call of a rectifier on one batch.

    Attributes:
        place: path of the module that calls it, with ``#2`` at its second call.
        before: pre-activations ``[samples, nodes, positions]``.
        after: activations, likewise.
        to_before: gradient with respect to ``before`` of the last `RectifierPass.back`, likewise.
        to_after: gradient with respect to ``after``, likewise.
    """

    place: str
    before: Tensor
    after: Tensor
    to_before: Tensor | None = None
    to_after: Tensor | None = None


class RectifierPass:
    """A forward pass of a model on a batch that can be differentiated several times.

    Args:
        model: in evaluation mode.
        x: samples ``[n, ...]``, floating.

    Attributes:
        output: ``[n, values]``, the main output, flattened.
        gates: calls of rectifiers in forward order.
        smooth: names of functions in `SMOOTH` that were called.

    Raises:
        TsdistillError: the forward pass fails, the output is not floating or does not depend on the samples.
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.gates: list[RectifierCall] = []
        self.smooth: set[str] = set()
        self._x = to_model(x, model).detach().requires_grad_()
        calls: dict[str, int] = {}
        with torch.enable_grad(), _where(model) as stack, _SmoothFunctionMode(self.smooth):

            def see(call: int, before: Tensor, through: Callable[[], Tensor], dim: int) -> Tensor:
                name = stack[-1]
                calls[name] = calls.get(name, 0) + 1
                place = name if calls[name] == 1 else f"{name}#{calls[name]}"
                values = by_node(before.detach(), dim).clone()
                gate = RectifierCall(place, values, values)
                self.gates.append(gate)
                _listen(before, dim, gate, "to_before")
                after = through()
                gate.after = by_node(after.detach(), dim).clone()
                _listen(after, dim, gate, "to_after")
                return after

            output = main_output(run_with_callback(model, self._x, see))
        self.output = output.flatten(1)
        if not self.output.requires_grad:
            raise TsdistillError(
                "the model's output does not depend on its input in a way that has a gradient"
            )

    def back(self, direction: Tensor) -> None:
        """Set the gradients of all calls for Σ direction · output, ``direction`` ``[n, values]``."""
        for gate in self.gates:
            gate.to_before = gate.to_after = None
        torch.autograd.grad(self.output, self._x, direction.to(self.output), retain_graph=True)


def _listen(value: Tensor, dim: int, gate: RectifierCall, name: str) -> None:
    if value.requires_grad:
        value.register_hook(lambda gradient: setattr(gate, name, by_node(gradient.detach(), dim)))


@contextmanager
def _where(model: nn.Module) -> Iterator[list[str]]:
    """A stack of module paths; its last entry is the module that runs."""
    stack = [""]

    def push(call: ModuleCall) -> None:
        stack.append(call.name)

    def pop(_: ModuleCall) -> None:
        stack.pop()

    modules = {path: module for path, module in model.named_modules() if path}
    with ModuleHooks(modules, before=push, after=pop, always=True):
        yield stack


class _SmoothFunctionMode(TorchFunctionMode):
    def __init__(self, names: set[str]) -> None:
        super().__init__()
        self._names = names

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in SMOOTH:
            self._names.add(name)
        return func(*args, **(kwargs or {}))
