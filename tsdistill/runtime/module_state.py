"""What modules keep of their last forward: tensors in attributes, in containers and in buffers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tsdistill.models.layers.effective_weights import computed_attributes
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.torch_private import buffers_of, version_of

_SKIPPED = frozenset(("_parameters", "_buffers", "_modules"))
_CONTAINERS = (list, dict)


class ModuleState:
    """The state of modules at one moment, which `restore` puts back.

    A tensor in an attribute or buffer that was replaced or changed in place since (a membrane potential, a
    hidden state, a running count) becomes what it was, so that every run of a model begins from the same
    state. A value or list entry that was not there and that hangs on an autograd graph (the last attention
    map, an auxiliary loss) is taken away. What a module computes once and keeps (a table of positions) is no
    state of a run; it stays. Nor are weights that hooks compute before each forward.

    Args:
        modules: every module of a model. Buffers of PyTorch's own modules and of norms are not looked at for
            changes in place: in evaluation mode the forward makes none.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        modules = list(modules)
        self._tables = [
            _Table(table, frozenset(computed_attributes(module)))
            for module in modules
            for table in (vars(module), buffers_of(module))
        ]
        self._buffers = [
            (tensor, version_of(tensor), tensor.detach().clone())
            for module in modules
            if not type(module).__module__.startswith("torch.") and "running_mean" not in buffers_of(module)
            for tensor in buffers_of(module).values()
            if tensor is not None
        ]
        self._contents = [
            (value, type(value)(value))
            for table in self._tables
            for value in table.entries.values()
            if type(value) in _CONTAINERS
        ]

    def restore(self) -> None:
        """Put the state back."""
        for number, (tensor, version, copy) in enumerate(self._buffers):
            if version_of(tensor) != version and tensor.shape == copy.shape:
                with torch.no_grad():
                    tensor.detach().copy_(copy)
                self._buffers[number] = tensor, version_of(tensor), copy
        for value, old in self._contents:
            if any(_graphed(item) for item in _items(value)):
                value.clear()
                value.extend(old) if isinstance(value, list) else value.update(old)
        for table in self._tables:
            table.restore()


@contextmanager
def state_restored(model: nn.Module, *, each: bool = False) -> Iterator[None]:
    """Put the state of ``model`` (`ModuleState`) back at the end of the block and, with ``each``, at the
    start of every forward in it, too."""
    state = ModuleState(model.modules())

    def begin(call: ModuleCall) -> None:
        if call.module is model:  # a copy made inside the block has this hook, too
            state.restore()

    try:
        with ModuleHooks({"": model} if each else {}, before=begin):
            yield
    finally:
        state.restore()


class _Table:
    """The attributes or buffers of one module as they are now, but for the names ``computed``."""

    def __init__(self, table: dict[str, Any], computed: Collection[str]) -> None:
        self._table, self._skipped = table, {*_SKIPPED, *computed}
        self.entries = {name: value for name, value in table.items() if name not in self._skipped}

    def restore(self) -> None:
        """Put back tensors that were replaced, and take away what hangs on an autograd graph."""
        for name, value in list(self._table.items()):
            before = self.entries.get(name)
            if value is before or name in self._skipped:
                continue
            if isinstance(before, torch.Tensor):
                self._table[name] = before
            elif any(_graphed(item) for item in _items(value)):
                if name in self.entries:
                    self._table[name] = before
                else:
                    del self._table[name]


def _items(value: Any) -> Iterator[Any]:
    """``value``, or what lists, tuples and dictionaries in it hold."""
    if type(value) in (list, tuple):
        for item in value:
            yield from _items(item)
    elif type(value) is dict:
        for item in value.values():
            yield from _items(item)
    else:
        yield value


def graphed_tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    """The tensors among the attributes and buffers of ``module`` (in lists, tuples and dictionaries, too)
    that hang on an autograd graph, which ``copy.deepcopy`` refuses."""
    for table in (vars(module), buffers_of(module)):
        for name, value in table.items():
            if name not in _SKIPPED:
                yield from (item for item in _items(value) if _graphed(item))


def _graphed(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not value.is_leaf
