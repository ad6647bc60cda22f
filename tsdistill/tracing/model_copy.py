"""The deep copy that every cut begins with."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tsdistill.runtime.module_state import graphed_tensors
from tsdistill.torch_private import children_of, named_modules_of

_TABLES = frozenset((OrderedDict, dict, set, list))
_PLAIN = frozenset((type(None), bool, int, float, str, type, torch.dtype, torch.device))
_HELD = frozenset(("_parameters", "_buffers", "_modules"))


def deepcopy_model(model: nn.Module, replaced: Mapping[int, torch.Tensor] | None = None) -> nn.Module:
    """A deep copy; tensors that modules have computed and still hold come along without their history.

    ``replaced`` (the identity of a tensor -> another) says which tensors others take the place of.
    """
    memo: dict[int, Any] = dict(replaced or {})
    modules = [module for _, module in named_modules_of(model)]
    for module in modules:
        for tensor in graphed_tensors(module):
            memo.setdefault(id(tensor), tensor.detach().clone())
    plain = [module for module in modules if _is_plain(type(module)) and id(module) not in memo]
    twins = [type(module).__new__(type(module)) for module in plain]
    memo.update((id(module), twin) for module, twin in zip(plain, twins, strict=True))
    for module, twin in zip(plain, twins, strict=True):
        twin.__setstate__(_state(module, memo))
    twin_model = copy.deepcopy(model, memo)
    for _, module in named_modules_of(twin_model):
        if "parametrizations" in children_of(module) and type(module).__name__.startswith("Parametrized"):
            _separate(module)
        if isinstance(module, torch.jit.ScriptModule):
            _detach(module)
    return twin_model


def _detach(module: torch.jit.ScriptModule) -> None:
    """Make the parameters of a copied scripted module its own: PyTorch computes them from the original's."""
    for parameter in module.parameters():
        if not parameter.is_leaf:
            parameter.detach_().requires_grad_(True)


def _separate(module: nn.Module) -> None:
    """Give a parametrized module a class of its own, and whatever is copied from it, too.

    PyTorch puts the property that computes the weight into the module's class, which copies share: to remove
    the parametrization of one would break the others.
    """
    kind = type(module)
    own = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    if not hasattr(kind.__bases__[0], "__deepcopy__"):
        own["__deepcopy__"] = _separate_copy
    module.__class__ = type(kind.__name__, kind.__bases__, own)


def _separate_copy(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    twin = type(module).__new__(type(module))
    memo[id(module)] = twin
    twin.__dict__.update(copy.deepcopy(module.__dict__, memo))
    _separate(twin)
    return twin


def _is_plain(kind: type) -> bool:
    """Whether ``deepcopy`` copies such a module by its state alone."""
    return (
        kind.__getstate__ is nn.Module.__getstate__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and not hasattr(kind, "__deepcopy__")
    )


def _state(module: nn.Module, memo: dict[int, Any]) -> dict[str, Any]:
    """What ``deepcopy`` would give of a module's state. Most of it are numbers, names and empty tables of
    hooks, over each of which ``deepcopy`` takes its time."""
    state = module.__getstate__()
    for name, value in state.items():
        kind = type(value)
        if kind in _PLAIN:
            continue
        if kind in _TABLES and not value:
            state[name] = memo.setdefault(id(value), kind())
        elif name in _HELD and kind is dict:
            state[name] = {
                key: None if held is None else _copy_state(held, memo) for key, held in value.items()
            }
        else:
            state[name] = copy.deepcopy(value, memo)
    return state


def _copy_state(held: Any, memo: dict[int, Any]) -> Any:
    known = memo.get(id(held))
    return copy.deepcopy(held, memo) if known is None else known
