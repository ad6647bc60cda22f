"""Calls that leave the caller's models and random generators as they were."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from tsdistill.runtime.exclusive import exclusive
from tsdistill.runtime.seeds import preserved_generators
from tsdistill.torch_private import buffers_of, named_modules_of, version_of

P = ParamSpec("P")
R = TypeVar("R")

_TABLES = frozenset((list, dict, OrderedDict, defaultdict, set, deque))
"""Containers whose entries a forward may change in place; they are compared by exact type."""

_REGISTERED = frozenset(("_parameters", "_modules"))
"""What a module registers. A lazy module fills these once, in its first forward, and keeps them."""

_preserved: set[int] = set()
"""Identities of the models that an outer call in progress puts back (guarded by the lock)."""


def unchanged(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function`` alone in this process and put back what it, or a model's forward, changes.

    Put back are, of every module that is an argument, or an item of a list, tuple or mapping: training modes,
    buffers, plain attributes and the entries of containers among them; of the process: the global random
    generators of Python, NumPy and torch. Parameters are not copied: no call changes them.
    """

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        models = _models((*args, *kwargs.values()))
        with exclusive(), preserved_generators(), preserved_models(*models):
            return function(*args, **kwargs)

    return called


@contextmanager
def preserved_models(*models: nn.Module) -> Iterator[None]:
    """Put back buffers and plain attributes of ``models`` when the block ends.

    Inside another such block for the same model nothing is saved again. What a block sets on a model
    on purpose is undone, too.
    """
    with exclusive():
        new = [
            model for model in {id(model): model for model in models}.values() if id(model) not in _preserved
        ]
        states = [
            _ModuleState(module)
            for model in new
            for _, module in named_modules_of(model)
            if not isinstance(module, torch.jit.ScriptModule)
        ]
        _preserved.update(id(model) for model in new)
        try:
            yield
        finally:
            _preserved.difference_update(id(model) for model in new)
            for state in states:
                state.restore()


class _ModuleState:
    """The buffers and plain attributes of one module, as they are when this is made."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._kind = type(module)
        own, buffers = vars(module), buffers_of(module)
        self._attributes = {name: value for name, value in own.items() if name not in _REGISTERED}
        self._tables = []
        tensors = list(buffers.values())
        for name, value in own.items():
            if type(value) in _TABLES:
                if not name.startswith("_") or name == "_buffers":
                    self._tables.append((value, value.copy()))
            elif isinstance(value, torch.Tensor):
                tensors.append(value)
        uncounted = "running_mean" in buffers  # the kernels of norms write without counting
        self._tensors = [
            (tensor, None if uncounted else _version(tensor), tensor.detach().clone())
            for tensor in tensors
            if isinstance(tensor, torch.Tensor) and not isinstance(tensor, nn.Parameter) and _held(tensor)
        ]

    def restore(self) -> None:
        """Put back what differs; a lazy module that has become an ordinary one stays that."""
        if type(self._module) is not self._kind:
            return
        own = vars(self._module)
        for name in [name for name in own if name not in self._attributes and name not in _REGISTERED]:
            del own[name]
        own.update(self._attributes)
        for table, entries in self._tables:
            table.clear()
            table.extend(entries) if isinstance(table, (list, deque)) else table.update(entries)
        with torch.no_grad():
            for tensor, version, values in self._tensors:
                if not _same(tensor, values) if version is None else _version(tensor) != version:
                    tensor.data = values


def _held(tensor: torch.Tensor) -> bool:
    """Whether a tensor has stored values that a forward could overwrite."""
    return (
        not is_lazy(tensor)
        and tensor.is_leaf
        and tensor.layout == torch.strided
        and tensor.device.type != "meta"
    )


def _same(tensor: torch.Tensor, values: torch.Tensor) -> bool:
    """Whether a tensor has the type, the device and the values of another."""
    alike = tensor.dtype == values.dtype and tensor.device == values.device
    return alike and tensor.equal(values)


def _version(tensor: torch.Tensor) -> int | None:
    """How many times ``tensor`` was written in place; None for an inference tensor, which does not count."""
    return None if tensor.is_inference() else version_of(tensor)


def _models(values: Iterable[Any]) -> Iterator[nn.Module]:
    for value in values:
        if isinstance(value, nn.Module):
            yield value
        elif isinstance(value, (list, tuple, Mapping)):
            items = value.values() if isinstance(value, Mapping) else value
            yield from (item for item in items if isinstance(item, nn.Module))
