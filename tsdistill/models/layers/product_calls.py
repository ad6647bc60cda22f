"""Calls of ``F.linear``, ``F.conv2d``, ``@`` and their like on parameters, made layers that can be seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tsdistill.models.layers.call_kinds import (
    COMPUTED,
    CallLayer,
    ComputedCall,
    Conv1dCall,
    Conv2dCall,
    Conv3dCall,
    ConvTranspose1dCall,
    ConvTranspose2dCall,
    ConvTranspose3dCall,
    Given,
    LinearCall,
    ProductCall,
)
from tsdistill.models.layers.einsum_form import LinearForm, linear_form
from tsdistill.models.layers.provenance import Provenance

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


_CONVOLUTIONS = {1: Conv1dCall, 2: Conv2dCall, 3: Conv3dCall}
_TRANSPOSED = {1: ConvTranspose1dCall, 2: ConvTranspose2dCall, 3: ConvTranspose3dCall}


@dataclass(frozen=True, eq=False)
class _Call:
    """One call, taken apart.

    Attributes:
        kind: class of the layer that it amounts to.
        input: what the weight is multiplied with.
        weight: the parameter, or what is computed from parameters.
        bias: another, or none.
        settings: the layer's attributes that the call must have, too.
        groups: of a convolution.
        form: of an einsum, which is a layer once input and weight are laid out by it.
    """

    kind: type[CallLayer]
    input: Tensor
    weight: Tensor
    bias: Tensor | None
    settings: tuple[Any, ...] = ()
    groups: int = 1
    form: LinearForm | None = None

    @property
    def computed(self) -> bool:
        """Whether weight or bias are no parameters."""
        if self.form is not None or not isinstance(self.weight, nn.Parameter):
            return True
        return not (self.bias is None or isinstance(self.bias, nn.Parameter))

    def laid_out(self) -> _Call:
        """The call of ``F.linear`` that an einsum amounts to; every other call as it is."""
        if self.form is None:
            return self
        return replace(
            self, input=self.form.input(self.input), weight=self.form.weight(self.weight), form=None
        )

    def is_of(self, layer: nn.Module, place: int = 0) -> bool:
        """Whether this is a call of ``layer``, being number ``place`` among those with a computed weight."""
        if self.computed:
            if not isinstance(layer, ComputedCall) or type(layer) is not COMPUTED[self.kind]:
                return False
            own: ComputedCall = layer
            return own.place == place and own.settings[:-1] == self.settings[:-1]
        return (
            type(layer) is self.kind
            and layer._parameters.get("weight") is self.weight
            and layer._parameters.get("bias") is self.bias
            and _settings(layer) == self.settings
        )

    def layer(self, parameter: str) -> CallLayer:
        """A new layer that it is a call of."""
        computed = self.computed
        if self.form is not None:
            return replace(self.laid_out(), weight=self.form.weight(self.weight).detach()).layer(parameter)
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
        if computed:
            del layer._parameters["weight"]
            layer._parameters["bias"] = self.bias if isinstance(self.bias, nn.Parameter) else None
            layer.__class__ = COMPUTED[self.kind]
            layer.settings, layer.given = self.settings, Given()
            layer.given.weight = self.weight.detach()
        return layer


def _settings(layer: Any) -> tuple[Any, ...]:
    if not isinstance(layer, nn.modules.conv._ConvNd):
        return ()
    more = layer.output_padding if layer.transposed else ()
    return layer.stride, layer.padding, layer.dilation, more, layer.kernel_size


def _taken_apart(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call | None:
    """A call of a function that multiplies a tensor with another, which may be a parameter; ``None`` for all
    others."""
    sides, spread = _SIDES.get(func), _TRANSPOSED_SIDES.get(func)
    if func is F.linear or sides or spread:
        names = _TRANSPOSED_ARGUMENTS if spread else _ARGUMENTS
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        x, weight, bias = given.get("input"), given.get("weight"), given.get("bias")
        if not isinstance(x, Tensor) or not (bias is None or isinstance(bias, Tensor)):
            return None
        if func is F.linear:
            return _product(x, weight, bias, turned=False)
        number = sides or spread or 0
        if not isinstance(weight, Tensor) or weight.ndim != number + 2:
            return None

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
    if func is torch.einsum and len(args) == 3 and all(isinstance(each, Tensor) for each in args[1:]):
        return _summed(*args)
    return None


def _summed(equation: Any, x: Tensor, weight: Tensor) -> _Call | None:
    """An einsum of two tensors. The second is taken for the weight, unless the first is a parameter."""
    if isinstance(x, nn.Parameter):
        inputs, arrow, output = str(equation).partition("->")
        equation, x, weight = ",".join(reversed(inputs.split(","))) + arrow + output, weight, x
    form = linear_form(equation, x, weight)
    return None if form is None else _Call(LinearCall, x, weight, None, form=form)


def _product(x: Tensor, weight: Any, bias: Tensor | None, *, turned: bool) -> _Call | None:
    """A product with a parameter or its transpose; ``turned`` where the function does not transpose it."""
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        return None
    base = _transposed(weight)
    if base is not None:
        weight, turned = base, not turned
    if turned and bias is not None:
        return None
    return _Call(ProductCall if turned else LinearCall, x, weight, bias)


def _transposed(weight: Tensor) -> nn.Parameter | None:
    """The parameter that a matrix is the transpose of."""
    base = weight._base
    if isinstance(weight, nn.Parameter) or not isinstance(base, nn.Parameter):
        return None
    same = base.data_ptr() == weight.data_ptr() and base.stride() == weight.stride()[::-1]
    return base if same and base.shape == weight.shape[::-1] else None


class _Diverting(TorchFunctionMode):
    """Lets calls go through the layers that they amount to, so that the hooks of these run.

    Calls with a computed weight are told apart by their number, in forwards of the module that makes them:
    they go through layers only while it is this module's own code that runs. ``make`` is asked for a layer
    where there is none for a call yet.
    """

    def __init__(
        self, layers: list[CallLayer], make: Callable[[_Call], CallLayer | None] | None = None
    ) -> None:
        super().__init__()
        self._layers, self._make = layers, make
        self._count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        call = _taken_apart(func, args, kwargs)
        layer = None if call is None else self._layer(call)
        if call is None or layer is None:
            return func(*args, **kwargs)
        if call.groups > 1:
            layer.groups = call.groups  # type: ignore[assignment]
        if not isinstance(layer, ComputedCall):
            return layer(call.input)
        laid_out = call.laid_out()
        layer.hold(laid_out.weight, laid_out.bias)
        try:
            result = layer(laid_out.input)
        finally:
            layer.given.running = None
        return result if call.form is None else call.form.output(result, call.weight)

    def _layer(self, call: _Call) -> CallLayer | None:
        if call.computed and self._make is None:
            if _running.modes[-1] is not self:
                return None
            self._count += 1
        layer = next((layer for layer in self._layers if call.is_of(layer, self._count)), None)
        if (layer is None or call.computed) and self._make is not None:
            layer = self._make(call)
            if layer is not None and not call.computed:
                self._layers.append(layer)
        return layer


_running = threading.local()
"""The modes that forwards of the running thread are inside of; ``None`` for modules without calls."""


def _enter(module: nn.Module, args: Any) -> None:
    layers = [child for child in module._modules.values() if isinstance(child, CallLayer)]
    mode = _Diverting(layers)
    _running.__dict__.setdefault("modes", []).append(mode)
    mode.__enter__()


def _leave(module: nn.Module, args: Any, output: Any) -> None:
    _running.modes.pop().__exit__(None, None, None)


def _enter_another(module: nn.Module, args: Any) -> None:
    _running.__dict__.setdefault("modes", []).append(None)


def _leave_another(module: nn.Module, args: Any, output: Any) -> None:
    _running.modes.pop()


@contextmanager
def calls_as_layers(model: nn.Module, run: Callable[[], Any]) -> Iterator[None]:
    """Give ``model`` a submodule for every call that multiplies an activation with a parameter, or with what
    is computed from parameters, and is made outside of PyTorch's own layers; the calls go through these
    submodules inside the block.

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
        for name in [name for name, child in module._modules.items() if isinstance(child, CallLayer)]:
            del module._modules[name]
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for number in [number for number, hook in hooks.items() if hook in _HOOKS]:
                del hooks[number]
                module._forward_hooks_always_called.pop(number, None)
    return model


_HOOKS = (_enter, _leave, _enter_another, _leave_another)


def _callable_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that a function may be called on: those of modules that are no layers of PyTorch."""
    for path, module in model.named_modules():
        if _calls_itself(module):
            continue
        for leaf, parameter in module._parameters.items():
            if parameter is not None and parameter.ndim > 1:
                yield f"{path}.{leaf}" if path else leaf, parameter


def _calls_itself(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, *_OWN_CALLS))


def _add_layers(model: nn.Module, run: Callable[[], Any]) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    own = {id(parameter) for _, parameter in _callable_weights(model)}
    paths = {id(module): path for path, module in model.named_modules()}
    stack: list[tuple[str, list[_Call]]] = [("", [])]
    found: list[tuple[str, CallLayer]] = []
    constant: list[tuple[CallLayer, frozenset[str]]] = []
    provenance = Provenance(model)

    def make(call: _Call) -> CallLayer | None:
        caller, computed = stack[-1]
        if call.computed:
            computed.append(call)
            sources = () if _calls_itself(model.get_submodule(caller)) else known(call)
            if not sources:
                return None
            for where, layer in found:
                if where == caller and call.is_of(layer, len(computed)):
                    return layer
        else:
            sources = tuple(names[i] for i in (id(call.weight),) if i in names and i in own)
        if not sources or not all(not caller or name.startswith(f"{caller}.") for name in sources):
            return None
        layer = call.layer(sources[0])
        if call.computed:
            parts = [part for part, met in constant if met <= set(sources)]
            found[:] = [each for each in found if each[1] not in parts]
        if met := provenance.sources(call.input):
            constant.append((layer, met | set(sources)))  # it may be a part of computing another weight
        if isinstance(layer, ComputedCall):
            layer.place = len(computed)
            layer.take([(name, model.get_parameter(name)) for name in sources])
        found.append((caller, layer))
        return layer

    def known(call: _Call) -> tuple[str, ...]:
        """The parameters that a weight is computed from, those with most entries first."""
        if isinstance(call.weight, nn.Parameter):
            return (names[id(call.weight)],) if id(call.weight) in own else ()
        sources = provenance.sources(call.weight)
        return tuple(sorted(sources, key=lambda name: (-model.get_parameter(name).numel(), name)))

    def enter(module: nn.Module, args: Any) -> None:
        stack.append((paths[id(module)], []))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        stack.pop()

    handles = []
    for module in model.modules():
        if module is not model and not isinstance(module, torch.jit.ScriptModule):
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        with provenance, _Diverting([], make):
            run()
    finally:
        for handle in handles:
            handle.remove()
    _register(model, found)


def _register(model: nn.Module, found: list[tuple[str, CallLayer]]) -> None:
    for caller, layer in found:
        module = model.get_submodule(caller)
        leaf = layer.parameter.rpartition(".")[2]
        kind = type(layer).__name__.removeprefix("Computed").removesuffix("Call").lower()
        name = f"{kind}_of_{leaf}"
        count = sum(other.startswith(name) for other in module._modules)
        module.add_module(name if not count else f"{name}_{count + 1}", layer)
    callers = {id(model.get_submodule(caller)) for caller, _ in found}
    beside = {
        id(module)
        for caller, layer in found
        if isinstance(layer, ComputedCall)
        for module in model.get_submodule(caller).modules()
        if not isinstance(module, CallLayer | torch.jit.ScriptModule)
    }
    for module in model.modules():
        if id(module) in callers:
            module.register_forward_pre_hook(_enter)
            module.register_forward_hook(_leave, always_call=True)
        elif id(module) in beside:
            module.register_forward_pre_hook(_enter_another)
            module.register_forward_hook(_leave_another, always_call=True)
