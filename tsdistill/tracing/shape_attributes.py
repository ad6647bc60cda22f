"""Numbers that modules keep as plain attributes, and what becomes of one when another number changes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import nn

from tsdistill.torch_private import ConvNd, NormBase

STANDARD = (ConvNd, nn.Linear, nn.GroupNorm, NormBase)
"""PyTorch's own modules whose numbers say what their tensors do, and concern no other module."""


def resized(value: Any, given: int, numbers: Mapping[int, int]) -> tuple[Any, bool] | None:
    """What becomes of ``value``, and whether it is ``given`` itself.

    ``numbers`` say what ``given`` becomes, and what the others in a row of numbers do. It is None for a
    value that has nothing to do with it.
    """
    exact = _swapped(value, given, numbers)
    if exact is not None:
        return exact, True
    wanted = numbers[given]
    if isinstance(value, int) and not isinstance(value, bool) and value > 0 and given > 1:
        if value % given == 0 and value // given <= 64:
            return value // given * wanted, False
        if given % value == 0 and wanted % (given // value) == 0 and value > 1:
            return wanted // (given // value), False
    return None


def _swapped(value: Any, given: int, numbers: Mapping[int, int]) -> Any:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return numbers[given] if value == given else None
    if isinstance(value, tuple | list) and value and all(type(v) is int for v in value) and given in value:
        swapped = [numbers.get(v, v) for v in value]
        return tuple(swapped) if isinstance(value, tuple) else swapped
    return None


@cache
def is_width_name(name: str) -> bool:
    """Whether an attribute of this name may well be a width, or count heads or groups."""
    return any(
        part in name
        for part in ("head", "group", "dim", "chan", "chs", "width", "feat", "planes", "_c", "shape")
    )


def ancestor_paths(path: str) -> list[str]:
    """The names of a module and of everything that it is in, up to the model's own, which is empty."""
    places = [path]
    while places[-1]:
        places.append(places[-1].rpartition(".")[0])
    return places
