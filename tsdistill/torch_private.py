"""What is used here of PyTorch and is private there: the one place to look at when a version changes it.

No other module names these (a test holds that), but for the three whose text goes into the files of exported
models (`models.attention`, `models.constant_modules`, `models.widths`) and cannot import this package there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.batchnorm import _NormBase as NormBase
from torch.nn.modules.conv import _ConvNd as ConvNd
from torch.nn.modules.conv import _ConvTransposeNd as ConvTransposeNd
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = [
    "LOCAL_SCALAR",
    "BatchNorm",
    "ConvNd",
    "ConvTransposeNd",
    "DisableTorchFunction",
    "NormBase",
    "StorageWeakRef",
    "TorchDispatchMode",
    "base_of",
    "buffers_of",
    "children_of",
    "is_batched",
    "is_wrapped",
    "mutated_arguments",
    "named_modules_of",
    "parameters_of",
    "pre_hooks_of",
    "pytree",
    "remove_hooks",
    "storage_key",
    "temporary_buffers_of",
    "version_of",
    "weight_norm",
]

DisableTorchFunction = torch._C.DisableTorchFunction
"""A context in which no ``TorchFunctionMode`` and no tensor subclass sees a call."""

LOCAL_SCALAR = torch.ops.aten._local_scalar_dense.default
"""The operator that reads one number out of a tensor."""


def parameters_of(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """The table of a module's own parameters; one that is registered without a tensor is ``None``."""
    return module._parameters


def buffers_of(module: nn.Module) -> dict[str, Tensor | None]:
    """The table of a module's own buffers; one that is registered without a tensor is ``None``."""
    return module._buffers


def temporary_buffers_of(module: nn.Module) -> set[str]:
    """Names of a module's own buffers that its state dict leaves out."""
    return module._non_persistent_buffers_set


def children_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """The table of a module's own submodules."""
    return module._modules


def named_modules_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """``model.named_modules()`` as a list, by a loop, which takes a fraction of the time of its generators in
    generators."""
    named: list[tuple[str, nn.Module]] = []
    seen: set[nn.Module] = set()
    pending: list[tuple[str, nn.Module]] = [("", model)]
    while pending:
        prefix, module = pending.pop()
        if module in seen:
            continue
        if type(module).named_modules is not nn.Module.named_modules:
            return list(model.named_modules())
        seen.add(module)
        named.append((prefix, module))
        if module._modules:
            start = f"{prefix}." if prefix else ""
            below = [(start + name, child) for name, child in module._modules.items() if child is not None]
            pending += reversed(below)
    return named


def pre_hooks_of(module: nn.Module) -> list[Any]:
    """The hooks that run before a module's forward."""
    return list(module._forward_pre_hooks.values())


def remove_hooks(module: nn.Module, *functions: Any) -> None:
    """Take ``functions`` away from the hooks before and after a module's forward."""
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for number in [number for number, hook in hooks.items() if hook in functions]:
            del hooks[number]
            module._forward_hooks_always_called.pop(number, None)


def version_of(tensor: Tensor) -> int:
    """How many times the values of a tensor (and of its views) were written in place."""
    return tensor._version


def base_of(tensor: Tensor) -> Tensor | None:
    """The tensor that ``tensor`` is a view of."""
    return tensor._base


def storage_key(storage: torch.UntypedStorage) -> int:
    """A number that two storages have in common while they are one and alive."""
    key: int = storage._cdata
    return key


def mutated_arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """What an operator is given to write its result into."""
    schema = func._schema
    if not schema.is_mutable:
        return []
    written = [
        argument.alias_info is not None and argument.alias_info.is_write for argument in schema.arguments
    ]
    places = zip(schema.arguments, written, strict=True)
    positional = [value for value, writes in zip(args, written, strict=False) if writes]
    return positional + [kwargs[a.name] for a, writes in places if writes and a.name in kwargs]


def is_batched(value: Any) -> bool:
    """Whether a tensor is one of those inside ``torch.vmap``."""
    return torch._C._functorch.is_batchedtensor(value)


def is_wrapped(value: Any) -> bool:
    """Whether a tensor is one of those inside any transform of ``torch.func``."""
    return torch._C._functorch.is_functorch_wrapped_tensor(value)


def weight_norm(direction: Tensor, length: Tensor, dim: int) -> Tensor:
    """The weight of ``torch.nn.utils.weight_norm``: ``direction * length / ‖direction‖``.

    Args:
        direction: ``weight_v``, of the shape of the weight.
        length: ``weight_g``, of size 1 in all dimensions but ``dim``.
        dim: the dimension that keeps a norm for each index.
    """
    weight: Tensor = torch._weight_norm(direction, length, dim)
    return weight
