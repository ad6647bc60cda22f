"""Attributes of modules that hold widths, and their new values when a width changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from torch import nn

from tsdistill.torch_private import ConvNd, NormBase
from tsdistill.tracing.replay import CutRun, ReplayResult, related
from tsdistill.tracing.trace_record import Trace

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


_GROUPS = {"convolution": 8, "native_group_norm": 6}
"""Part of an operator's name -> position of the number of groups among its arguments (ATen's schema)."""


_COUNTED = ("groups", "heads", "all_head", "attn_dim")
"""Parts of the names of attributes that count groups or heads, or the coordinates of all heads together."""


def predict_attributes(model: nn.Module, trace: Trace) -> None:
    """Record in ``trace.tracked`` what is known without a cut: the numbers of groups that PyTorch's
    own convolutions and group norms of ``model`` keep, and those of groups and heads that other modules keep
    under such a name, or those of all heads together, and give to a view."""
    counted: dict[str, list[str]] = defaultdict(list)
    for owner, name in trace.read:
        if any(part in name for part in _COUNTED):
            counted[owner].append(name)
    for step in trace.steps:
        if not step.sizes or step.module not in counted:
            continue
        module = model.get_submodule(step.module)
        place = next((place for op, place in _GROUPS.items() if op in step.op), None)
        if (place is not None) != isinstance(module, STANDARD):
            continue
        for name in counted[step.module]:
            for argument, _, labels in step.sizes:
                if place in (None, argument) and getattr(module, name) == len(labels):
                    trace.tracked.setdefault((step.module, name), []).append(labels)
    trace.predicted |= trace.tracked.keys()


def set_tracked(run: CutRun, done: Collection[tuple[str, str]]) -> dict[tuple[str, str], Any]:
    """Set the tracked attributes of a cut model.

    Args:
        run: of the cut model; attributes are set in place.
        done: ``(module, attribute)`` pairs that are not touched.

    Returns:
        ``(module, attribute)`` -> its value before.
    """
    before: dict[tuple[str, str], Any] = {}
    for (owner, name), counted in run.record.trace.tracked.items():
        if (owner, name) in done:
            continue
        module = run.model.get_submodule(owner)
        old = getattr(module, name)
        kept = [(len(labels), run.count(labels)) for labels in counted]
        numbers = {size: wanted for size, wanted in kept if size != wanted}
        if isinstance(old, tuple | list) and numbers and [size for size, _ in kept] == list(old):
            new = type(old)(wanted for _, wanted in kept)
        else:
            result = resized(old, next(iter(numbers)), numbers) if numbers else None
            if result is None:
                continue
            new = result[0]
        before[owner, name] = old
        setattr(module, name, new)
    return before


def is_suspect(model: nn.Module, key: tuple[str, str], predicted: bool, result: ReplayResult) -> bool:
    """Whether an attribute may be the cause of a failed replay.

    The attributes of PyTorch's own modules concern these alone. A predicted attribute is suspect only where
    its new value is the stale size.

    Args:
        model: the cut model.
        key: module and attribute.
        predicted: whether no cut has confirmed the attribute yet.
        result: of the replay.
    """
    owner, name = key
    module = model.get_submodule(owner)
    if isinstance(module, STANDARD):
        return owner in {result.broken, *(item.step.module for item in result.stale)}
    stale = [item.computed for item in result.stale if related(owner, item.step.module)]
    if predicted:
        return getattr(module, name) in stale
    return bool(stale) or related(owner, result.broken)
