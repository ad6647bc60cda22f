"""Calls of ``F.linear``, ``F.conv2d``, ``@`` and their like on parameters, made layers that can be seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_SIDES = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
_TRANSPOSED_SIDES = {F.conv_transpose1d: 1, F.conv_transpose2d: 2, F.conv_transpose3d: 3}
_PRODUCTS = frozenset((torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm))
_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED_ARGUMENTS = (
    "input",
    "weight",
    "bias",
    "stride",
    "padding",
    "output_padding",
    "groups",
    "dilation",
)
_OWN_CALLS = (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase, nn.Embedding, nn.EmbeddingBag, nn.Bilinear)
"""Modules whose forward calls functions of their own on their weights."""


class CallLayer(nn.Module):
    """The layer that a function call amounts to. Its parameters are those of the module that makes the call.

    Attributes:
        parameter: dotted name of the parameter that is the weight, in the model.
    """

    parameter: str


class LinearCall(nn.Linear, CallLayer):
    """``F.linear(x, weight, bias)``, or ``x @ weight.T``."""


class Conv1dCall(nn.Conv1d, CallLayer):
    """``F.conv1d``."""


class Conv2dCall(nn.Conv2d, CallLayer):
    """``F.conv2d``."""


class Conv3dCall(nn.Conv3d, CallLayer):
    """``F.conv3d``."""


class ConvTranspose1dCall(nn.ConvTranspose1d, CallLayer):
    """``F.conv_transpose1d``."""


class ConvTranspose2dCall(nn.ConvTranspose2d, CallLayer):
    """``F.conv_transpose2d``."""


class ConvTranspose3dCall(nn.ConvTranspose3d, CallLayer):
    """``F.conv_transpose3d``."""


class ProductCall(CallLayer):
    """``x @ weight``, a linear layer whose weight is ``[in, out]``."""

    def forward(self, x: Tensor) -> Tensor:
        """The product."""
        return x @ self.weight  # type: ignore[operator]


_CONVOLUTIONS = {1: Conv1dCall, 2: Conv2dCall, 3: Conv3dCall}
_TRANSPOSED = {1: ConvTranspose1dCall, 2: ConvTranspose2dCall, 3: ConvTranspose3dCall}


@dataclass(frozen=True, eq=False)
class _Call:
    """One call, taken apart.

    Attributes:
        kind: class of the layer that it amounts to.
        input: what the weight is multiplied with.
        weight: the parameter.
        bias: another, or none.
        settings: the layer's attributes that the call must have, too.
        groups: of a convolution.
    """

    kind: type[CallLayer]
    input: Tensor
    weight: Tensor
    bias: Tensor | None
    settings: tuple[Any, ...] = ()
    groups: int = 1

    def is_of(self, layer: nn.Module) -> bool:
        """Whether this is a call of ``layer``."""
        return (
            type(layer) is self.kind
            and layer._parameters.get("weight") is self.weight
            and layer._parameters.get("bias") is self.bias
            and _settings(layer) == self.settings
        )

    def layer(self, parameter: str) -> CallLayer:
        """A new layer that it is a call of."""
        if self.kind is ProductCall:
            layer: Any = ProductCall()
            layer.register_parameter("bias", None)
        elif self.kind is LinearCall:
            layer = LinearCall(
                self.weight.shape[1], self.weight.shape[0], self.bias is not None, device="meta"
            )
        else:
            transposed = self.kind in _TRANSPOSED.values()
            stride, padding, dilation, more, kernel = self.settings
            inner, outer = self.weight.shape[1] * self.groups, self.weight.shape[0]
            if transposed:
                inner, outer = outer, inner
            layer = self.kind(
                inner,
                outer,
                kernel,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=self.groups,
                bias=self.bias is not None,
                device="meta",
                **({"output_padding": more} if transposed else {}),
            )
        layer._parameters["weight"], layer._parameters["bias"] = self.weight, self.bias
        layer.parameter, layer.training = parameter, False
        return layer


def _settings(layer: Any) -> tuple[Any, ...]:
    if not isinstance(layer, nn.modules.conv._ConvNd):
        return ()
    more = layer.output_padding if layer.transposed else ()
    return layer.stride, layer.padding, layer.dilation, more, layer.kernel_size


def _taken_apart(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call | None:
    """A call of a function that multiplies a tensor with a parameter; ``None`` for all others."""
    sides, spread = _SIDES.get(func), _TRANSPOSED_SIDES.get(func)
    if func is F.linear or sides or spread:
        names = _TRANSPOSED_ARGUMENTS if spread else _ARGUMENTS
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        x, weight, bias = given.get("input"), given.get("weight"), given.get("bias")
        if not isinstance(x, Tensor) or not (bias is None or isinstance(bias, nn.Parameter)):
            return None
        if func is F.linear:
            return _product(x, weight, bias, turned=False)
        if not isinstance(weight, nn.Parameter):
            return None
        number = sides or spread or 0

        def each(name: str, default: int) -> tuple[int, ...] | str:
            value = given.get(name, default)
            if isinstance(value, str):
                return value
            row = (value,) if isinstance(value, int) else tuple(value)
            return row * number if len(row) == 1 else row

        settings = (
            each("stride", 1),
            each("padding", 0),
            each("dilation", 1),
            each("output_padding", 0) if spread else (),
            tuple(weight.shape[2:]),
        )
        kinds: Any = _TRANSPOSED if spread else _CONVOLUTIONS
        return _Call(kinds[number], x, weight, bias, settings, int(given.get("groups", 1)))
    if (
        func in _PRODUCTS
        and len(args) == 2
        and not kwargs
        and isinstance(args[0], Tensor)
        and args[0].ndim > 1
    ):
        return _product(args[0], args[1], None, turned=True)
    return None


def _product(x: Tensor, weight: Any, bias: Tensor | None, *, turned: bool) -> _Call | None:
    """A product with a parameter or its transpose; ``turned`` where the function does not transpose it."""
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        return None
    if not isinstance(weight, nn.Parameter):
        base = weight._base
        if not isinstance(base, nn.Parameter) or base.shape != weight.shape[::-1]:
            return None
        if base.stride() != weight.stride()[::-1] or base.data_ptr() != weight.data_ptr():
            return None
        weight, turned = base, not turned
    if turned and bias is not None:
        return None
    return _Call(ProductCall if turned else LinearCall, x, weight, bias)


class _Diverting(TorchFunctionMode):
    """Lets calls go through the layers that they amount to, so that the hooks of these run.

    ``make`` is asked for a layer where there is none for a call yet.
    """

    def __init__(
        self, layers: list[CallLayer], make: Callable[[_Call], CallLayer | None] | None = None
    ) -> None:
        super().__init__()
        self._layers, self._make = layers, make

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        call = _taken_apart(func, args, kwargs)
        if call is not None:
            layer = next((layer for layer in self._layers if call.is_of(layer)), None)
            if layer is None and self._make is not None and (layer := self._make(call)) is not None:
                self._layers.append(layer)
            if layer is not None:
                if call.groups > 1:
                    layer.groups = call.groups  # type: ignore[assignment]
                return layer(call.input)
        return func(*args, **kwargs)


_running = threading.local()
"""The modes that forwards of the running thread are inside of."""


def _enter(module: nn.Module, args: Any) -> None:
    layers = [child for child in module._modules.values() if isinstance(child, CallLayer)]
    mode = _Diverting(layers)
    _running.__dict__.setdefault("modes", []).append(mode)
    mode.__enter__()


def _leave(module: nn.Module, args: Any, output: Any) -> None:
    _running.modes.pop().__exit__(None, None, None)


@contextmanager
def calls_as_layers(model: nn.Module, run: Callable[[], Any]) -> Iterator[None]:
    """Give ``model`` a submodule for every call that multiplies an activation with a parameter and is made
    outside of PyTorch's own layers; the calls go through these submodules inside the block.

    Copies that are made inside keep them; `without_call_layers` takes them away.

    Args:
        model: the model; behind the block it is as it was.
        run: runs it on its example, at rest, without gradients.
    """
    if not any(_callable_weights(model)) or any(isinstance(m, CallLayer) for m in model.modules()):
        yield
        return
    try:
        _add_layers(model, run)
        yield
    finally:
        without_call_layers(model)


def without_call_layers(model: nn.Module) -> nn.Module:
    """``model`` itself, without the submodules that `calls_as_layers` gave it."""
    for module in model.modules():
        names = [name for name, child in module._modules.items() if isinstance(child, CallLayer)]
        for name in names:
            del module._modules[name]
        if names:
            for hooks in (module._forward_pre_hooks, module._forward_hooks):
                for number in [number for number, hook in hooks.items() if hook in (_enter, _leave)]:
                    del hooks[number]
                    module._forward_hooks_always_called.pop(number, None)
    return model


def _callable_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that a function may be called on: those of modules that are no layers of PyTorch."""
    for path, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, *_OWN_CALLS)):
            continue
        for leaf, parameter in module._parameters.items():
            if parameter is not None and parameter.ndim > 1:
                yield f"{path}.{leaf}" if path else leaf, parameter


def _add_layers(model: nn.Module, run: Callable[[], Any]) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    own = {id(parameter) for _, parameter in _callable_weights(model)}
    paths = {id(module): path for path, module in model.named_modules()}
    stack: list[str] = [""]
    found: list[tuple[str, CallLayer]] = []

    def make(call: _Call) -> CallLayer | None:
        name = names.get(id(call.weight))
        caller = stack[-1]
        inside = name is not None and (not caller or name.startswith(f"{caller}."))
        if name is None or not inside or id(call.weight) not in own:
            return None
        found.append((caller, call.layer(name)))
        return found[-1][1]

    def enter(module: nn.Module, args: Any) -> None:
        stack.append(paths[id(module)])

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        stack.pop()

    handles = []
    for module in model.modules():
        if module is not model and not isinstance(module, torch.jit.ScriptModule):
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        with _Diverting([], make):
            run()
    finally:
        for handle in handles:
            handle.remove()
    for caller, layer in found:
        module = model.get_submodule(caller)
        leaf = layer.parameter.rpartition(".")[2]
        name = f"{type(layer).__name__.removesuffix('Call').lower()}_of_{leaf}"
        count = sum(other.startswith(name) for other in module._modules)
        module.add_module(name if not count else f"{name}_{count + 1}", layer)
    for caller in dict.fromkeys(caller for caller, _ in found):
        module = model.get_submodule(caller)
        module.register_forward_pre_hook(_enter)
        module.register_forward_hook(_leave, always_call=True)
