"""Calls of ``F.linear``, ``F.conv2d``, ``@`` and their like on parameters, made layers that can be seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tsdistill.models.layers.call_kinds import CallLayer, ComputedCall
from tsdistill.models.layers.call_parts import Call, parse_call
from tsdistill.models.layers.layer_kind import kind_of
from tsdistill.models.layers.provenance import Provenance
from tsdistill.torch_private import children_of, parameters_of, remove_hooks

_OWN_CALLS = (nn.MultiheadAttention, nn.Embedding, nn.EmbeddingBag, nn.Bilinear)
"""Modules, besides the layers of a known kind, whose forward calls functions on weights of its own."""


class _CallInterceptor(TorchFunctionMode):
    """Lets calls go through the layers that they amount to, so that the hooks of these run.

    Calls with a computed weight are distinguished by their number, in forwards of the module that makes them:
    they go through layers only while it is this module's own code that runs. ``make`` is asked for a layer
    where there is none for a call yet.
    """

    def __init__(
        self, layers: list[CallLayer], make: Callable[[Call], CallLayer | None] | None = None
    ) -> None:
        super().__init__()
        self._layers, self._make = layers, make
        self._count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        call = parse_call(func, args, kwargs)
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
            layer.call_weights.running = None
        return result if call.form is None else call.form.output(result, call.weight)

    def _layer(self, call: Call) -> CallLayer | None:
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


def _enter(module: nn.Module, _args: Any) -> None:
    layers = [child for child in children_of(module).values() if isinstance(child, CallLayer)]
    mode = _CallInterceptor(layers)
    _running.__dict__.setdefault("modes", []).append(mode)
    mode.__enter__()


def _leave(_module: nn.Module, _args: Any, _output: Any) -> None:
    _running.modes.pop().__exit__(None, None, None)


def _enter_another(_module: nn.Module, _args: Any) -> None:
    _running.__dict__.setdefault("modes", []).append(None)


def _leave_another(_module: nn.Module, _args: Any, _output: Any) -> None:
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
        for name in [name for name, child in children_of(module).items() if isinstance(child, CallLayer)]:
            del children_of(module)[name]
        remove_hooks(module, *_HOOKS)
    return model


_HOOKS = (_enter, _leave, _enter_another, _leave_another)


def _callable_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that a function may be called on: those of modules that are no layers of PyTorch."""
    for path, module in model.named_modules():
        if _calls_itself(module):
            continue
        for leaf, parameter in parameters_of(module).items():
            if parameter is not None and parameter.ndim > 1:
                yield f"{path}.{leaf}" if path else leaf, parameter


def _calls_itself(module: nn.Module) -> bool:
    return kind_of(module) is not None or isinstance(module, _OWN_CALLS)


def _add_layers(model: nn.Module, run: Callable[[], Any]) -> None:
    finder = _CallFinder(model)
    handles = []
    for module in model.modules():
        if module is not model and not isinstance(module, torch.jit.ScriptModule):
            handles.append(module.register_forward_pre_hook(finder.enter))
            handles.append(module.register_forward_hook(finder.leave))
    try:
        with finder.provenance, _CallInterceptor([], finder.layer):
            run()
    finally:
        for handle in handles:
            handle.remove()
    _register(model, finder.added)


class _CallFinder:
    """Makes layers of the calls that a forward of ``model`` makes.

    Attributes:
        added: the layers, each with the name of the module that makes the call.
        provenance: which tensors are computed from parameters alone.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._own = {id(parameter) for _, parameter in _callable_weights(model)}
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._stack: list[tuple[str, list[Call]]] = [("", [])]
        self._constant: list[tuple[CallLayer, frozenset[str]]] = []
        self.added: list[tuple[str, CallLayer]] = []
        self.provenance = Provenance(model)

    def enter(self, module: nn.Module, _args: Any) -> None:
        """A forward-pre-hook: calls are those of ``module`` now."""
        self._stack.append((self._paths[id(module)], []))

    def leave(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        """A forward hook: calls are those of the module outside now."""
        self._stack.pop()

    def layer(self, call: Call) -> CallLayer | None:
        """The layer of a call; ``None`` where its weight is not of the module that makes it."""
        caller, computed = self._stack[-1]
        if call.computed:
            computed.append(call)
        sources = self._sources(call, caller)
        if not sources:
            return None
        for where, layer in self.added if call.computed else ():
            if where == caller and call.is_of(layer, len(computed)):
                return layer
        if caller and not all(name.startswith(f"{caller}.") for name in sources):
            return None
        layer = call.layer(sources[0])
        if call.computed:
            parts = [part for part, met in self._constant if met <= set(sources)]
            self.added = [each for each in self.added if each[1] not in parts]
        if met := self.provenance.sources(call.input):
            self._constant.append((layer, met | set(sources)))  # it may be a part of computing another weight
        if isinstance(layer, ComputedCall):
            layer.place = len(computed)
            layer.take([(name, self._model.get_parameter(name)) for name in sources])
        self.added.append((caller, layer))
        return layer

    def _sources(self, call: Call, caller: str) -> tuple[str, ...]:
        """The parameters behind the weight of a call, those with most entries first."""
        if isinstance(call.weight, nn.Parameter):
            own = id(call.weight) in self._own and id(call.weight) in self._names
            itself = call.computed and _calls_itself(self._model.get_submodule(caller))
            return (self._names[id(call.weight)],) if own and not itself else ()
        if _calls_itself(self._model.get_submodule(caller)):
            return ()
        sources = self.provenance.sources(call.weight)
        return tuple(sorted(sources, key=lambda name: (-self._model.get_parameter(name).numel(), name)))


def _register(model: nn.Module, added: list[tuple[str, CallLayer]]) -> None:
    for caller, layer in added:
        module = model.get_submodule(caller)
        leaf = layer.parameter.rpartition(".")[2]
        kind = type(layer).__name__.removeprefix("Computed").removesuffix("Call").lower()
        name = f"{kind}_of_{leaf}"
        count = sum(other.startswith(name) for other in children_of(module))
        module.add_module(name if not count else f"{name}_{count + 1}", layer)
    callers = {id(model.get_submodule(caller)) for caller, _ in added}
    parents = {
        id(module)
        for caller, layer in added
        if isinstance(layer, ComputedCall)
        for module in model.get_submodule(caller).modules()
        if not isinstance(module, CallLayer | torch.jit.ScriptModule)
    }
    for module in model.modules():
        if id(module) in callers:
            module.register_forward_pre_hook(_enter)
            module.register_forward_hook(_leave, always_call=True)
        elif id(module) in parents:
            module.register_forward_pre_hook(_enter_another)
            module.register_forward_hook(_leave_another, always_call=True)
