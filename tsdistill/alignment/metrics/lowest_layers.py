"""Which layers read the raw input, found by running the model once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.models.layers.layer_kind import kind_of
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import OperatorMode, evaluation_mode
from tsdistill.runtime.nests import tensors
from tsdistill.torch_private import version_of


@dataclass(frozen=True, eq=False)
class LowestLayer:
    """A layer that reads the raw input.

    Attributes:
        weight: its weight as it is applied (a layer may standardise it first).
        norm: name of the batch norm that directly follows, ``None`` without one.
    """

    weight: Tensor
    norm: str | None = None


def lowest_layers(model: nn.Module, example_input: Any) -> dict[str, LowestLayer]:
    """The linear layers and convolutions of ``model`` whose input no parameter had a part in.

    Every operator of one forward is looked at: what comes out depends on a parameter when something that went
    in is one or does. Fixed operations on the input (normalising, cutting into patches) leave it raw. A batch
    norm directly follows when it receives the very tensor that the layer gave, unchanged.

    Args:
        model: the model; it is left as it was.
        example_input: one input (batch 1).

    Returns:
        name of the layer's weight -> the layer.

    Raises:
        TsdistillError: the forward fails.
    """
    learnt = _LearntInputs(model)
    recorder = _LayerCalls(model, learnt)
    with evaluation_mode(model), torch.no_grad(), recorder.hooked(), learnt:
        forward(model, example_input)
    return recorder.found


class _LearntInputs(OperatorMode):
    """Knows which tensors of the running forward depend on a parameter, and what the last convolution was."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.convolved: tuple[Tensor, Tensor] | None = None
        self._known: dict[int, Tensor] = {id(parameter): parameter for parameter in model.parameters()}

    def __contains__(self, tensor: Tensor) -> bool:
        return id(tensor) in self._known

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(tensor in self for tensor in tensors((args, kwargs or {}))):
            self._known.update((id(tensor), tensor) for tensor in tensors(out))
        if func is torch.ops.aten.convolution.default:
            self.convolved = out, args[1]
        return out

    def weight(self, layer: Any, output: Tensor) -> Tensor:
        """The weight that gave ``output``, just now."""
        if self.convolved is not None and self.convolved[0] is output:
            return self.convolved[1]
        return layer.weight


class _LayerCalls:
    """What layers and norms report while they run."""

    def __init__(self, model: nn.Module, learnt: _LearntInputs) -> None:
        self.found: dict[str, LowestLayer] = {}
        self._model = model
        self._learnt = learnt
        self._weights = {id(parameter): name for name, parameter in model.named_parameters()}
        self._deeper: set[str] = set()
        self._given: list[tuple[str, Tensor, int]] = []

    def hooked(self) -> ExitStack:
        """Listen inside the block."""
        layers, norms = {}, {}
        for name, module in self._model.named_modules():
            kind = kind_of(module)
            if kind is not None and not kind.stacked:
                layers[name] = module
            elif isinstance(getattr(module, "running_var", None), Tensor) and hasattr(module, "eps"):
                norms[name] = module
        stack = ExitStack()
        stack.enter_context(ModuleHooks(layers, after=self._layer))
        stack.enter_context(ModuleHooks(norms, before=self._norm))
        return stack

    def _layer(self, call: ModuleCall) -> None:
        layer, output = call.module, call.output
        name = self._weights.get(id(layer.weight))
        if name is None or not call.args or not isinstance(output, Tensor):
            return
        if call.args[0] in self._learnt:
            self._deeper.add(name)
            self.found.pop(name, None)
        elif name not in self._deeper:
            self.found.setdefault(name, LowestLayer(self._learnt.weight(layer, output)))
            kind = kind_of(layer)
            if output.ndim == 2 or (kind is not None and kind.sides):
                self._given.append((name, output, version_of(output)))

    def _norm(self, call: ModuleCall) -> None:
        for writer, output, version in self._given:
            if (
                call.args
                and call.args[0] is output
                and version_of(output) == version
                and writer in self.found
            ):
                self.found[writer] = replace(self.found[writer], norm=call.name)
