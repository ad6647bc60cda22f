"""Which module of a model is running, and which of its attributes the running code reads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from tsdistill.models.layers.call_kinds import CallLayer
from tsdistill.torch_private import named_modules_of


@contextmanager
def module_names(model: nn.Module, stack: list[str]) -> Iterator[None]:
    """Keep the dotted name of the innermost running module on top of ``stack``."""
    modules = ((name, module) for name, module in named_modules_of(model) if name)
    skipped = torch.jit.ScriptModule, CallLayer
    names = {id(module): name for name, module in modules if not isinstance(module, skipped)}

    thread = get_ident()  # hooks of all modules fire in every thread, also where others run this model

    def enter(module: nn.Module, *_: Any) -> None:
        if id(module) in names and get_ident() == thread:
            stack.append(names[id(module)])

    def leave(module: nn.Module, *_: Any) -> None:
        if id(module) in names and get_ident() == thread:
            stack.pop()

    handles = register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        del stack[1:]


@contextmanager
def attributes_read(
    model: nn.Module, note: Callable[[str, str], None], note_mode: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Call ``note(module, attribute)`` whenever code reads a number, a tuple or a list off a module.

    ``note_mode()`` is called when code other than that of PyTorch's own modules reads the training mode of a
    module. Dropout modules do not count: `plain_evaluation` keeps them in evaluation mode.
    """
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    plain = object.__getattribute__

    def spy(self: nn.Module, attribute: str) -> Any:
        value = plain(self, attribute)
        if type(value) in (int, tuple, list):
            for name in names.get(id(self), ()):
                note(name, attribute)
        elif attribute == "training" and "Drop" not in type(self).__name__:
            reader = sys._getframe(1).f_globals.get("__name__", "")
            if not reader.startswith("torch.nn.modules."):
                note_mode()
        return value

    nn.Module.__getattribute__ = spy  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        del nn.Module.__getattribute__
