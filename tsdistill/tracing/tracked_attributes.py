"""Attributes whose labels are known: predicted from the trace, or recorded by the first cut that set them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

import numpy as np
from torch import nn

from tsdistill.tracing.replay import ReplayResult, related
from tsdistill.tracing.shape_attributes import STANDARD, resized
from tsdistill.tracing.trace_record import Record, Trace

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


def set_tracked(
    model: nn.Module, record: Record, gone: np.ndarray, done: Collection[tuple[str, str]] = ()
) -> dict[tuple[str, str], Any]:
    """Set the tracked attributes of a cut model.

    Args:
        model: the cut model; attributes are set in place.
        record: of the whole model.
        gone: bool [nodes], the removed nodes.
        done: ``(module, attribute)`` pairs that are not touched.

    Returns:
        ``(module, attribute)`` -> its value before.
    """
    before: dict[tuple[str, str], Any] = {}
    for (owner, name), counted in record.trace.tracked.items():
        if (owner, name) in done:
            continue
        module = model.get_submodule(owner)
        old = getattr(module, name)
        kept = [(len(labels), int(record.keeps(labels, gone).sum())) for labels in counted]
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
