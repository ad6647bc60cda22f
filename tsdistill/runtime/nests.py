"""Inputs of any form: tensors in tuples, lists, mappings, data classes and graphs; one walk through them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def is_record(value: Any) -> bool:
    """Whether ``value`` is an instance of a data class."""
    return is_dataclass(value) and not isinstance(value, type)


def is_graph(value: Any) -> bool:
    """Whether ``value`` is a graph, or a batch of them, as torch_geometric has them: an object that hands out
    its tensors (``to_dict``) and changes each of them (``apply``)."""
    own = (Tensor, np.ndarray, Mapping, tuple, list, nn.Module)
    return not isinstance(value, own) and all(callable(getattr(value, n, None)) for n in ("to_dict", "apply"))


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in ``value``, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)
    elif is_record(value):
        for each in fields(value):
            yield from tensors(getattr(value, each.name))
    elif is_graph(value):
        yield from tensors(value.to_dict())


def mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """A copy of ``value`` with ``change(t)`` in the place of every tensor ``t``; a mapping becomes a dict."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: mapped(item, change) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        items = [mapped(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if is_record(value):
        made = copy.copy(value)
        for each in fields(value):
            object.__setattr__(made, each.name, mapped(getattr(value, each.name), change))
        return made
    if is_graph(value):
        return copy.copy(value).apply(change)
    return value


def count(x: Any) -> int:
    """Number of samples in a batch: entries of a list, graphs of a batch of graphs, else the length of the
    first dimension of its first tensor; 0 without one."""
    if isinstance(x, list):
        return len(x)
    if is_graph(x):
        number = getattr(x, "num_graphs", 1)
        return number if isinstance(number, int) else 1
    first = next(tensors(x), None)
    return 0 if first is None or first.ndim == 0 else first.shape[0]


def cut(x: Any, start: int, stop: int) -> Any:
    """Samples ``start`` to ``stop`` of a batch, batch dimension kept; all of it where tensors do not share
    their first dimension (the nodes and edges of a graph), for samples cannot be told apart there."""
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
    if isinstance(x, Mapping):
        return ", ".join(f"{key} {shapes(value)}" for key, value in x.items())
    if isinstance(x, (tuple, list)):
        return ", ".join(shapes(value) for value in x)
    if is_record(x):
        return shapes({each.name: getattr(x, each.name) for each in fields(x)})
    return shapes(x.to_dict()) if is_graph(x) else type(x).__name__


def as_tensors(value: Any) -> Any:
    """``value`` with arrays as tensors."""
    if isinstance(value, np.ndarray):
        return torch.as_tensor(value)
    if isinstance(value, Mapping):
        return {key: as_tensors(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return type(value)(as_tensors(item) for item in value)
    return value


def holds_tensors(value: Any) -> bool:
    """Whether there is a tensor or an array of numbers anywhere in ``value``."""
    if isinstance(value, np.ndarray):
        return True
    if isinstance(value, Mapping):
        return any(holds_tensors(item) for item in value.values())
    if isinstance(value, (tuple, list)):
        return any(holds_tensors(item) for item in value)
    return next(tensors(value), None) is not None


def by_name(model: nn.Module, x: Any) -> Any:
    """Positional arguments by the names of the parameters that a forward of ``model`` has for them; any other
    ``x``, and arguments that do not fit, as they are."""
    if not isinstance(x, tuple) or hasattr(x, "_fields"):
        return x
    try:
        return dict(inspect.signature(model.forward).bind(*x).arguments)
    except (TypeError, ValueError):
        return x


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
