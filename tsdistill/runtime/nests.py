"""Inputs of any form: tensors in tuples, lists, mappings, data classes and graphs; their one traversal."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tsdistill.torch_private import pytree

_PLAIN = frozenset((type(None), bool, int, float, str, torch.dtype, torch.device, torch.layout))
"""Types of what models and operators are given that is no tensor and holds none."""


def is_record(value: Any) -> bool:
    """Whether ``value`` is an instance of a data class."""
    return is_dataclass(value) and not isinstance(value, type)


def is_graph(value: Any) -> bool:
    """Whether ``value`` is a graph, or a batch of them, as torch_geometric has them: an object that hands out
    its tensors (``to_dict``) and changes each of them (``apply``)."""
    own = (Tensor, np.ndarray, Mapping, tuple, list, nn.Module)
    return not isinstance(value, own) and all(callable(getattr(value, n, None)) for n in ("to_dict", "apply"))


def entries(value: Any) -> list[tuple[Any, Any]] | None:
    """The entries of a container with their names, in order: keys of a mapping, fields of a named tuple or of
    a data class, positions in a tuple or list, what a graph hands out; ``None`` of anything else.

    Every traversal of inputs and outputs uses this function. ``torch.utils._pytree`` does not do for it: it
    knows neither mappings of other classes, nor data classes, nor graphs.
    """
    if isinstance(value, Tensor):
        return None
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, (tuple, list)):
        return list(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    if is_record(value):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return list(value.to_dict().items()) if is_graph(value) else None


def leaves(value: Any) -> Iterator[Any]:
    """Everything in ``value`` that is no container, in order."""
    inner = entries(value)
    if inner is None:
        yield value
    else:
        for _, item in inner:
            yield from leaves(item)


def tensors(value: Any) -> list[Tensor]:
    """Every tensor in ``value``, in order, also in containers of classes that a library has registered with
    PyTorch (the caches of transformers)."""
    if isinstance(value, Tensor):
        return [value]
    kind = type(value)
    if kind in _PLAIN:
        return []
    parts = value
    if kind is not tuple and kind is not list:  # these two are what operators are given, again and again
        inner = entries(value)
        if inner is None:
            return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]
        parts = [item for _, item in inner]
    result = []
    for part in parts:
        if isinstance(part, Tensor):
            result.append(part)
        elif type(part) not in _PLAIN:
            result += tensors(part)
    return result


def mapped(value: Any, change: Callable[[Any], Any], kind: type | tuple[type, ...] = Tensor) -> Any:
    """A copy of ``value`` with ``change(part)`` in the place of every part of a ``kind``.

    Mappings become dicts. Of a graph only tensors are changed, whatever the ``kind``.

    Args:
        value: inputs, labels or outputs, whatever their form.
        change: gives what takes the place of a part.
        kind: the classes of the parts that are changed. A container of such a class is one part.
    """
    if isinstance(value, kind):
        return change(value)
    inner = entries(value)
    if inner is None:
        return value
    if is_graph(value):
        return copy.copy(value).apply(change) if issubclass(Tensor, kind) else value
    changed = {name: mapped(item, change, kind) for name, item in inner}
    if isinstance(value, Mapping):
        return changed
    if isinstance(value, (tuple, list)):
        items = list(changed.values())
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    record = copy.copy(value)
    for name, item in changed.items():
        object.__setattr__(record, name, item)
    return record


def moved(
    value: Any, device: torch.device, floating: torch.dtype | None = None, *, non_blocking: bool = False
) -> Any:
    """A copy of ``value`` with its tensors on ``device``.

    Containers are new ones, also where no tensor moves, because a model may write to a graph or a list that
    it is given. The ``batch_sizes`` of a packed sequence stay where they are: torch takes them on the CPU
    only.

    Args:
        value: inputs, labels or outputs, whatever their form.
        device: where its tensors go.
        floating: what its floating tensors are converted to; ``None`` leaves their types.
        non_blocking: copies from page-locked memory to a GPU may go on after the call.
    """

    def to_device(part: Any) -> Any:
        if isinstance(part, PackedSequence):
            data, batch_sizes, *orders = part
            return PackedSequence(to_device(data), batch_sizes, *map(to_device, orders))
        return part if part is None else convert(part)

    def convert(tensor: Tensor) -> Tensor:
        dtype = floating if floating is not None and tensor.is_floating_point() else tensor.dtype
        return tensor.to(device, dtype, non_blocking=non_blocking)

    return mapped(value, to_device, (Tensor, PackedSequence))


def count(x: Any) -> int:
    """Number of samples in a batch: entries of a list, graphs of a batch of graphs, else the length of the
    first dimension of its first tensor; 0 without one."""
    if isinstance(x, list):
        return len(x)
    if is_graph(x):
        number = getattr(x, "num_graphs", 1)
        return number if isinstance(number, int) else 1
    first = next(iter(tensors(x)), None)
    return 0 if first is None or first.ndim == 0 else first.shape[0]


def cut(x: Any, start: int, stop: int) -> Any:
    """Samples ``start`` to ``stop`` of a batch, batch dimension kept; all of it where tensors do not share
    their first dimension (the nodes and edges of a graph), for samples cannot be separated there.

    Args:
        x: the batch.
        start: first sample, counted from 0.
        stop: one more than the last sample.
    """
    if isinstance(x, (list, Tensor)):
        return x[start:stop]
    if is_graph(x):
        if not callable(getattr(x, "to_data_list", None)) or not hasattr(x, "num_graphs"):
            return x
        return type(x).from_data_list(x.to_data_list()[start:stop])
    sides = {len(t) for t in tensors(x) if t.ndim} - {1}
    if len(sides) > 1:
        return x
    size = sides.pop() if sides else 1
    return mapped(x, lambda t: t[start:stop] if t.ndim and len(t) == size else t)


def repeated(x: Any, times: int) -> Any:
    """An example of batch 1 as a batch of so many: tensors along their first dimension, graphs of a batch,
    the entry of a list (of samples), also of one that is an argument unless its tensors have a batch
    dimension of 1."""
    if isinstance(x, list):
        return x * times if len(x) == 1 else x
    if isinstance(x, tuple) and not hasattr(x, "_fields"):
        return tuple(_repeated(item, times) for item in x)
    if is_graph(x):
        if not callable(getattr(x, "to_data_list", None)):
            return x
        return type(x).from_data_list(x.to_data_list() * times)
    return mapped(x, lambda t: t.repeat(times, *[1] * (t.ndim - 1)) if t.ndim and len(t) == 1 else t)


def _repeated(argument: Any, times: int) -> Any:
    batched = isinstance(argument, list) and all(t.ndim and len(t) == 1 for t in tensors(argument))
    return list(repeated(tuple(argument), times)) if batched else repeated(argument, times)


def shapes(x: Any) -> str:
    """The shapes in ``x``, for messages."""
    if isinstance(x, Tensor):
        return f"of shape {tuple(x.shape)}"
    inner = entries(x)
    if inner is None:
        return type(x).__name__
    plain = isinstance(x, (tuple, list))
    return ", ".join(shapes(item) if plain else f"{name} {shapes(item)}" for name, item in inner)


def as_tensors(value: Any) -> Any:
    """``value`` with arrays as tensors."""
    return mapped(value, torch.as_tensor, np.ndarray)


def holds_tensors(value: Any) -> bool:
    """Whether there is a tensor or an array of numbers anywhere in ``value``."""
    return any(isinstance(leaf, (Tensor, np.ndarray)) for leaf in leaves(value))


def by_name(model: nn.Module, x: Any) -> Any:
    """Positional arguments by the names of the parameters that a forward of ``model`` has for them; any other
    ``x``, and arguments that do not fit, as they are."""
    if not isinstance(x, tuple) or hasattr(x, "_fields"):
        return x
    try:
        return dict(inspect.signature(model.forward).bind(*x).arguments)
    except (TypeError, ValueError):
        return x


def keyword_arguments(model: nn.Module, x: Any) -> Any:
    """Positional arguments as keyword arguments with which a forward of ``model`` can be called; any other
    ``x``, and arguments of which one cannot be given by keyword, as they are."""
    if not isinstance(x, tuple) or hasattr(x, "_fields"):
        return x
    try:
        bound = inspect.signature(model.forward).bind_partial(*x)
    except (TypeError, ValueError):
        return x
    kinds = {bound.signature.parameters[name].kind for name in bound.arguments}
    return dict(bound.arguments) if kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD} else x


def arguments_of(model: nn.Module, example: Any = None) -> int:
    """How many positional arguments a forward of ``model`` takes at least: those of an example that is a
    tuple, else those without a default."""
    if isinstance(example, tuple):
        return len(example)
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return max(1, sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters))
