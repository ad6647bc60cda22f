"""Tensors that modules keep as plain attributes, neither parameters nor buffers; they have widths, too."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.torch_private import buffers_of, named_modules_of


def named_constants(model: nn.Module, *, remove_duplicate: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
    """``(dotted name, tensor)`` of the tensors with sides among the plain attributes of ``model``, but for
    those that still hang on what they were computed from."""
    modules = named_modules_of(model) if remove_duplicate else model.named_modules(remove_duplicate=False)
    for prefix, module in modules:
        for leaf, value in constants_of(module):
            yield f"{prefix}.{leaf}" if prefix else leaf, value


def constants_of(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Those of one module, by attribute."""
    for leaf, value in vars(module).items():
        if isinstance(value, torch.Tensor) and value.ndim and value.is_leaf and not value.requires_grad:
            yield leaf, value


def named_tensors(model: nn.Module, *, remove_duplicate: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
    """``(dotted name, tensor)`` of parameters, buffers and constants."""
    yield from model.named_parameters(remove_duplicate=remove_duplicate)
    yield from model.named_buffers(remove_duplicate=remove_duplicate)
    yield from named_constants(model, remove_duplicate=remove_duplicate)


def awaited(model: nn.Module, name: str) -> bool:
    """Whether a constant of this name is one that ``model`` has still to compute: ``None`` until then."""
    owner, _, leaf = name.rpartition(".")
    module = dict(model.named_modules()).get(owner)
    return module is not None and leaf in vars(module) and vars(module)[leaf] is None


def hold(model: nn.Module, names: Collection[str], tensors: Mapping[str, torch.Tensor] | None = None) -> None:
    """Make buffers that no state dict has out of constants, so that they are stored and moved along.

    Args:
        model: the module to change.
        names: of buffers, which are left alone, and of constants.
        tensors: values of constants that the model does not have yet (it computes them when it first runs).

    Raises:
        TsdistillError: there is no such module, or something else has that name there.
    """
    for name in names:
        owner, _, leaf = name.rpartition(".")
        try:
            module = model.get_submodule(owner)
        except AttributeError as error:
            raise TsdistillError(f"there is no module {owner!r} for a buffer {leaf!r}") from error
        if leaf in buffers_of(module):
            continue
        value = vars(module).get(leaf)
        if value is None:
            value = (tensors or {}).get(name)
        if not isinstance(value, torch.Tensor) or hasattr(type(module), leaf):
            raise TsdistillError(f"{name} is no buffer, and no tensor that one could be made from")
        vars(module).pop(leaf, None)
        try:
            module.register_buffer(leaf, value, persistent=False)
        except (KeyError, TypeError) as error:
            raise TsdistillError(f"{name} cannot be a buffer ({error})") from error
