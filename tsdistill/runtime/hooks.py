"""Hooks on modules, which are there only inside a block."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tsdistill.torch_private import is_batched

Look = Callable[[Tensor], Tensor | None]


def branched(output: Tensor, look: Callable[[Tensor], None]) -> Tensor:
    """What goes on in place of a layer's output, so that ``look`` is called with the derivative by it.

    It is no view: what comes behind may work in place, which takes a view's hooks away. The output of a layer
    that runs inside ``torch.vmap`` goes on as it is, nothing can be hooked there.
    """
    if is_batched(output):
        return output
    branch = (output if output.requires_grad else output.detach().requires_grad_()).clone()
    branch.register_hook(look)
    return branch


def tapped(x: Tensor, look: Callable[[Tensor], None]) -> Tensor:
    """What a layer reads in place of ``x``, so that ``look`` is called with the derivative by it through that
    layer alone; ``x`` itself where it has none."""
    if not x.is_floating_point():
        return x
    branch = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
    branch.register_hook(look)
    return branch


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside the block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start


@dataclass(slots=True, eq=False)
class ModuleCall:
    """One call of a module: ``module(*args, **kwargs)``, and what it returned once it has.

    Attributes:
        name: the key under which `ModuleHooks` was given the module.
        module: the module.
        args: its positional arguments.
        kwargs: its keyword arguments.
        output: what it returned; ``None`` before it runs.
    """

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any = None

    @property
    def first(self) -> Any:
        """The first argument, which may be given by the name ``input``; ``None`` where there is none."""
        return self.args[0] if self.args else self.kwargs.get("input")


class ModuleHooks:
    """Forward hooks on modules, registered when a block begins and removed at its end, whatever happens.

    The block may be entered again. Hooks fire in every thread that runs the modules.

    Args:
        modules: by a name of the caller's choice; scripted ones, which take no hooks, are left out.
        before: called before a module runs; what it returns, unless ``None``, replaces ``(args, kwargs)``.
        after: called after a module has run; what it returns, unless ``None``, replaces the output.
        always: call ``after`` also where the module raises.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        *,
        before: Callable[[ModuleCall], Any] | None = None,
        after: Callable[[ModuleCall], Any] | None = None,
        always: bool = False,
    ) -> None:
        self._modules, self._before, self._after, self._always = modules, before, after, always
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        for name, module in self._modules.items():
            if not isinstance(module, torch.jit.ScriptModule):
                self._register(name, module)
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _register(self, name: str, module: nn.Module) -> None:
        before, after = self._before, self._after
        if before is not None:

            def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                return before(ModuleCall(name, module, args, kwargs))

            self._handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        if after is not None:

            def leave(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
                return after(ModuleCall(name, module, args, kwargs, output))

            self._handles.append(
                module.register_forward_hook(leave, with_kwargs=True, always_call=self._always)
            )


class InputHooks(ModuleHooks):
    """`ModuleHooks` that look at, or replace, the first input of modules of a model.

    Args:
        model: the model.
        hooks: by module name, what is called with the first input; a tensor that comes back replaces it.
        clock: counts the time that the calls take, if it is given.
        phase: under which name.
    """

    def __init__(
        self,
        model: nn.Module,
        hooks: Mapping[str, Sequence[Callable[[Tensor], Any]]],
        clock: Clock | None = None,
        phase: str = "",
    ) -> None:
        modules = dict(model.named_modules())
        super().__init__({name: modules[name] for name in hooks if name in modules}, before=self._look)
        self._looks, self._clock, self._phase = hooks, clock, phase

    def _look(self, call: ModuleCall) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        first = call.first
        x = first.data if isinstance(first, PackedSequence) else first
        if x is None or is_batched(x):
            return None
        with nullcontext() if self._clock is None else self._clock.phase(self._phase):
            for look in self._looks[call.name]:
                replaced = look(x)
                x = x if replaced is None else replaced
        argument = first._replace(data=x) if isinstance(first, PackedSequence) else x
        return (
            ((argument, *call.args[1:]), call.kwargs)
            if call.args
            else ((), {**call.kwargs, "input": argument})
        )
