"""A freshly built architecture with the tensors, widths and attributes of a cut model."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.models.files.stored_weights import check_types, difference, place
from tsdistill.models.info import Attribute, ModelInfo
from tsdistill.models.plain_tensors import awaited, hold, named_constants
from tsdistill.models.replacements import Replacement, replace_modules, replacements_of
from tsdistill.models.sources import catalog
from tsdistill.models.sources.specs import in_catalog
from tsdistill.models.widths import sync_widths
from tsdistill.options.option_fields import written
from tsdistill.torch_private import ConvNd, temporary_buffers_of

_WITHOUT_EFFECT = (
    *("training", "fused_attn", "grad_checkpointing", "inplace", "init_weights", "requires_grad"),
    "name_or_path",
)
"""Attributes that say nothing of what a model computes; the last one is where transformers has read it."""


def apply(
    model: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    info: ModelInfo,
    tied: Mapping[str, str],
    where: str | Path,
    replaced: Iterable[Replacement] = (),
) -> None:
    """Make ``model``, fresh from its factory, the one that ``tensors`` and ``info`` describe.

    Attributes are plain data: only an int or a tuple or list of ints that the module already has is replaced,
    by a value of the same kind.

    Args:
        model: the module to change.
        tensors: parameters and buffers by name.
        info: names of the architecture, changed attributes and buffers.
        tied: names that share the parameter of another name.
        where: begins the message of an error.
        replaced: modules that others without work take the place of.

    Raises:
        TsdistillError: names, numbers of dimensions, or attributes that the architecture does not have;
            ``where`` begins the message.
    """
    try:
        replace_modules(model, replaced)
        hold(model, info.buffers, tensors)
    except TsdistillError as error:
        raise TsdistillError(f"{where}: damaged metadata: {error}") from error
    built = _stored(model, info.buffers)
    off = difference(
        {name: (tensor.dim(),) for name, tensor in tensors.items()},
        {name: (tensor.dim(),) for name, tensor in built.items()},
        str(info.arch),
    )
    if off.count:
        first = (*off.missing, *off.unexpected, *off.reshaped)[0]
        held = "there is no" if first in off.missing else "there is another"
        raise TsdistillError(
            f"{where}: these are not the tensors of {info.arch}: {held} {first} "
            f"({off.count} names differ); give the right architecture with {written('arch')}"
        )
    check_types(built, tensors, where)
    place(model, tensors, tied)
    for attribute in info.attributes:
        _set(model, attribute, where)
    sync_widths(model)


def reconcile(model: nn.Module, info: ModelInfo) -> ModelInfo:
    """``info`` such that `apply` on a fresh build gives ``model``; checked by doing so.

    Shape constants and buffers that differ from a fresh build's are recorded, whoever changed them.

    Raises:
        TsdistillError: ``info.arch`` does not build this model; names the first thing that differs.
    """
    assert info.arch is not None
    built = (
        catalog.build_empty(info.arch) if in_catalog(info.arch) else catalog.build(info.arch, weights=False)
    )
    if built.arch != info.arch and in_catalog(built.arch):  # what the file will name, in place of a folder
        built = catalog.build_empty(built.arch)
    info = replace(info, arch=built.arch, input=info.input or built.input)
    fresh, replaced = built.model, tuple(replacements_of(model))
    with suppress(TsdistillError):  # what is missing is named below
        replace_modules(fresh, replaced)
    buffers, fresh_buffers = (
        dict(model.named_buffers()),
        {**dict(fresh.named_buffers()), **dict(named_constants(fresh))},
    )
    changed = [
        name
        for name, buffer in buffers.items()
        if not _persistent(model, name)
        and (_form(buffer) != _form(fresh_buffers[name]) if name in fresh_buffers else awaited(fresh, name))
    ]
    # A buffer that a fresh build has empty is filled by the first forward (a membrane): no part of the model.
    filled = {
        name for name, buffer in fresh_buffers.items() if not buffer.numel() and not _persistent(model, name)
    }
    kept = [name for name in (*info.buffers, *changed) if name not in filled]
    info = replace(info, buffers=tuple(dict.fromkeys(kept)))
    params = dict(model.named_parameters(remove_duplicate=False))
    first: dict[int, str] = {}
    tied = {n: first[id(p)] for n, p in params.items() if first.setdefault(id(p), n) != n}
    groups = _changed_groups(model, fresh)
    stored = _stored(model, info.buffers)
    apply(fresh, stored, replace(info, attributes=groups), tied, "the model cannot be written")
    return replace(info, attributes=(*groups, *_changed_attributes(model, fresh, built.arch)))


def _form(tensor: torch.Tensor) -> tuple[Any, ...]:
    return (*tensor.shape, tensor.dtype)


def _stored(model: nn.Module, extra: tuple[str, ...]) -> dict[str, torch.Tensor]:
    buffers = model.named_buffers(remove_duplicate=False)
    kept = {name: buffer for name, buffer in buffers if name in extra or _persistent(model, name)}
    return {**dict(model.named_parameters(remove_duplicate=False)), **kept}


def _persistent(model: nn.Module, name: str) -> bool:
    owner, _, leaf = name.rpartition(".")
    return leaf not in temporary_buffers_of(model.get_submodule(owner))


def _set(model: nn.Module, attribute: Attribute, where: str | Path) -> None:
    title = f"{attribute.module}.{attribute.name}" if attribute.module else attribute.name
    try:
        module = model.get_submodule(attribute.module)
    except AttributeError as error:
        raise TsdistillError(f"{where}: damaged metadata: there is no module {attribute.module!r}") from error
    old = _held(module, attribute.name)
    value = attribute.value
    if _is_int(old) and _is_int(value):
        module.__dict__[attribute.name] = value
    elif _is_ints(old) and isinstance(value, (tuple, list)):
        module.__dict__[attribute.name] = list(value) if isinstance(old, list) else tuple(value)
    else:
        raise TsdistillError(f"{where}: damaged metadata: {title} is not a shape constant of that kind")


def _changed_groups(model: nn.Module, fresh: nn.Module) -> tuple[Attribute, ...]:
    """The groups of convolutions, which other widths follow from."""
    fresh_modules = dict(fresh.named_modules())
    return tuple(
        Attribute(name, "groups", module.groups)
        for name, module in model.named_modules()
        if isinstance(module, ConvNd)
        and getattr(fresh_modules.get(name), "groups", module.groups) != module.groups
    )


def _changed_attributes(model: nn.Module, fresh: nn.Module, arch: str) -> tuple[Attribute, ...]:
    modules = dict(model.named_modules(remove_duplicate=False))
    fresh_modules = dict(fresh.named_modules(remove_duplicate=False))
    changed: list[Attribute] = []
    for name in dict.fromkeys((*modules, *fresh_modules)):
        one, other = modules.get(name), fresh_modules.get(name)
        if (one is None or _inert(one)) and (other is None or _inert(other)):
            continue
        if one is None or other is None or _kind(one) != _kind(other):
            fresh_class = "nothing" if other is None else type(other).__name__
            own_class = "nothing" if one is None else type(one).__name__
            raise _unlike(arch, f"{name or 'the model'} is {own_class}, there it is {fresh_class}")
        for key, value in one.__dict__.items():
            old = _held(other, key)
            if (_is_int(value) and _is_int(old)) or (_is_ints(value) and _is_ints(old)):
                if _flat(value) != _flat(old):
                    changed.append(Attribute(name, key, value))
            elif _matters(key) and _comparable(value, old) and _plain(value) != _plain(old):
                title = f"{name}.{key}" if name else key
                raise _unlike(arch, f"{title} is {_shown(value)}, there it is {_shown(old)}")
    return tuple(changed)


def _held(module: nn.Module, name: str) -> Any:
    """An attribute of the module itself, or a plain constant of its class; no property is run."""
    value = module.__dict__.get(name, inspect.getattr_static(type(module), name, None))
    return None if isinstance(value, (property, cached_property)) else value


def _unlike(arch: str, what: str) -> TsdistillError:
    return TsdistillError(
        f"{arch} does not build this model: {what}; give the factory that built it as "
        f"{written('arch', 'file.py:factory')}"
    )


def _inert(module: nn.Module) -> bool:
    """Whether a module does nothing in eval mode (dropout in all its kinds)."""
    return (
        isinstance(module, nn.Identity)
        or "Drop" in type(module).__name__
        or type(module).__name__ == "StochasticDepth"
    )


def _kind(module: nn.Module) -> str:
    return type(module).__qualname__


def _matters(key: str) -> bool:
    return not key.startswith("_") and key not in _WITHOUT_EFFECT and "drop" not in key


def _comparable(value: Any, old: Any) -> bool:
    """Whether two values of an attribute can be compared; values that a forward appended to an empty list
    cannot."""
    lists = isinstance(value, (tuple, list)) and isinstance(old, (tuple, list))
    return old is not None and not (lists and not old and _plain(value) is None)


def _plain(value: Any) -> Any:
    """What two attributes are compared by; ``None`` for objects that are not compared."""
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)) and all(isinstance(v, (bool, int, float, str)) for v in value):
        return list(value)
    return value.__qualname__ if isinstance(value, FunctionType) else None


def _shown(value: Any) -> str:
    return value.__qualname__ if isinstance(value, FunctionType) else repr(value)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_ints(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(_is_int(v) for v in value)


def _flat(value: Any) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)
