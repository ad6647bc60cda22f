"""Data-dependent operators (the boxes that a detector keeps): aligned runs repeat the trace's choices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tsdistill.torch_private import LOCAL_SCALAR

Choices = tuple[torch.Tensor | None, ...]
"""For every result of an operator: the indices or truth values, or None where it is floating point."""


def choices_of(op: str, results: Sequence[torch.Tensor]) -> Choices:
    """The integers and truth values among the results of an operator on floating-point values, or ()."""
    if "pool" in op or all(_values(t) for t in results):
        return ()
    return tuple(None if _values(t) else t.clone() for t in results)


def apply_choices(func: Any, args: Sequence[Any], kwargs: dict[str, Any], choices: Choices) -> Any:
    """The results of an operator when its choices are given.

    Args:
        func: the operator.
        args: its arguments.
        kwargs: its keyword arguments.
        choices: those of the same operator in the trace; values that belong to them (the maxima to their
            indices) are gathered from the present input.
    """
    if func is LOCAL_SCALAR:
        return choices[0].item() if choices[0] is not None else func(*args, **kwargs)
    clones = [t.clone() for t in choices if t is not None]
    if len(clones) == len(choices):
        return clones[0] if len(clones) == 1 else tuple(clones)
    dim = _argument(func, "dim", args, kwargs)
    if dim is None or len(choices) != 2 or choices[0] is not None:
        return _replaced(func(*args, **kwargs), choices)
    source, places = args[0], choices[1]
    assert places is not None
    if places.ndim == source.ndim:
        return source.gather(dim, places), places.clone()
    return source.gather(dim, places.unsqueeze(dim)).squeeze(dim), places.clone()


def _replaced(results: Any, choices: Choices) -> Any:
    """The results of an operator, with ``choices`` instead of its own."""
    if not isinstance(results, (tuple, list)) or len(results) != len(choices):
        return results
    return tuple(r if c is None else c.clone() for r, c in zip(results, choices, strict=True))


def scalar_choice(value: Any) -> Choices:
    """The choice of an operator that reads a number out of a tensor, such as the side of a box."""
    if not isinstance(value, int | float):
        return ()
    return (torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None),)


def _values(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _argument(func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The argument ``name`` of an operator, None where it takes none of that name."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.name == name:
            return args[place] if place < len(args) else kwargs.get(name, argument.default_value)
    return None
