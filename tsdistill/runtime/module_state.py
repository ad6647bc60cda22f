"""What modules keep of their last forward: tensors in attributes, in containers and in buffers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import is_
from typing import Any

import torch
from torch import nn

from tsdistill.models.layers.effective_weights import computed_attributes
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.torch_private import buffers_of, named_modules_of, pre_hooks_of, version_of

_SKIPPED = frozenset(("_parameters", "_buffers", "_modules"))
_CONTAINERS = (list, dict)
_NESTS = frozenset((list, tuple, dict))


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
        self._tables: list[_Table] = []
        self._buffers: list[tuple[torch.Tensor, int, torch.Tensor]] = []
        self._contents: list[tuple[Any, Any]] = []
        for module in modules:
            own, buffers = vars(module), buffers_of(module)
            skipped = _SKIPPED.union(computed_attributes(module)) if pre_hooks_of(module) else _SKIPPED
            self._tables += [_Table(own, skipped), _Table(buffers, skipped)]
            self._contents += [
                (value, type(value)(value))
                for name, value in own.items()
                if type(value) in _CONTAINERS and name not in skipped
            ]
            if buffers and not type(module).__module__.startswith("torch.") and "running_mean" not in buffers:
                self._buffers += [
                    (tensor, version_of(tensor), tensor.detach().clone())
                    for tensor in buffers.values()
                    if tensor is not None
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
    state = ModuleState(module for _, module in named_modules_of(model))

    def begin(call: ModuleCall) -> None:
        if call.module is model:  # a copy made inside the block has this hook, too
            state.restore()

    try:
        with ModuleHooks({"": model} if each else {}, before=begin):
            yield
    finally:
        state.restore()


class _Table:
    """The attributes or buffers of one module as they are now, but for the names ``skipped``."""

    def __init__(self, table: dict[str, Any], skipped: frozenset[str]) -> None:
        self._table, self._skipped, self._entries = table, skipped, dict(table)

    def restore(self) -> None:
        """Put back tensors that were replaced, and take away what hangs on an autograd graph."""
        entries = self._entries
        if len(entries) == len(self._table) and all(map(is_, self._table.values(), entries.values())):
            return
        for name, value in list(self._table.items()):
            before = entries.get(name)
            if value is before or name in self._skipped:
                continue
            if isinstance(before, torch.Tensor):
                self._table[name] = before
            elif any(_graphed(item) for item in _items(value)):
                if name in entries:
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
            if type(value) in _NESTS:
                if value and name not in _SKIPPED:
                    yield from (item for item in _items(value) if _graphed(item))
            elif isinstance(value, torch.Tensor) and not value.is_leaf:
                yield value


def _graphed(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not value.is_leaf
