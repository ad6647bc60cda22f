"""Attributes of modules that hold widths, and their new values when a width changes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import nn

from tsdistill.torch_private import ConvNd, NormBase

STANDARD = (ConvNd, nn.Linear, nn.GroupNorm, NormBase)
"""PyTorch's own modules whose attributes describe their own tensors and concern no other module."""


def resized(value: Any, old: int, numbers: Mapping[int, int]) -> tuple[Any, bool] | None:
    """The new value of an attribute when a width changes.

    Args:
        value: the attribute's present value, a number or a row of numbers.
        old: the width before the cut.
        numbers: widths before the cut -> after it; ``old`` among them.

    Returns:
        the new value, and whether ``value`` was ``old`` itself (or had it in a row) rather than a multiple or
        a divisor of it; None for a value that is neither.
    """
    exact = _swapped(value, old, numbers)
    if exact is not None:
        return exact, True
    wanted = numbers[old]
    if isinstance(value, int) and not isinstance(value, bool) and value > 0 and old > 1:
        if value % old == 0 and value // old <= 64:
            return value // old * wanted, False
        if old % value == 0 and wanted % (old // value) == 0 and value > 1:
            return wanted // (old // value), False
    return None


def _swapped(value: Any, old: int, numbers: Mapping[int, int]) -> Any:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return numbers[old] if value == old else None
    if isinstance(value, tuple | list) and value and all(type(v) is int for v in value) and old in value:
        swapped = [numbers.get(v, v) for v in value]
        return tuple(swapped) if isinstance(value, tuple) else swapped
    return None


@cache
def is_width_name(name: str) -> bool:
    """Whether an attribute of this name is likely to be a width or a number of heads or groups."""
    return any(
        part in name
        for part in ("head", "group", "dim", "chan", "chs", "width", "feat", "planes", "_c", "shape")
    )


def ancestor_paths(path: str) -> list[str]:
    """The names of a module and its ancestors, the model itself, whose name is empty, last."""
    places = [path]
    while places[-1]:
        places.append(places[-1].rpartition(".")[0])
    return places
