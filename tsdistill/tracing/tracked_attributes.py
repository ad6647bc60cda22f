"""Attributes whose labels are known: foreseen by the trace, or learnt by the first cut that changed them."""

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
_COUNTED = ("groups", "heads", "all_head", "attn_dim")


def predict_attributes(model: nn.Module, trace: Trace) -> None:
    """Write down in ``trace.followed`` what needs no cut to be learnt: the numbers of groups that PyTorch's
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
    """Set the attributes that an earlier cut had to change, but for those of ``done``; what they were
    before."""
    before: dict[tuple[str, str], Any] = {}
    for (owner, name), counted in record.trace.tracked.items():
        if (owner, name) in done:
            continue
        module = model.get_submodule(owner)
        old = getattr(module, name)
        kept = [(len(labels), int(record.keeps(labels, gone).sum())) for labels in counted]
        numbers = {given: wanted for given, wanted in kept if given != wanted}
        if isinstance(old, tuple | list) and numbers and [given for given, _ in kept] == list(old):
            new = type(old)(wanted for _, wanted in kept)
        else:
            found = resized(old, next(iter(numbers)), numbers) if numbers else None
            if found is None:
                continue
            new = found[0]
        before[owner, name] = old
        setattr(module, name, new)
    return before


def is_suspect(model: nn.Module, key: tuple[str, str], foreseen: bool, result: ReplayResult) -> bool:
    """Whether an attribute may be behind what went wrong in a replay.

    PyTorch's own modules keep their numbers for themselves; one that was only foreseen is taken back where
    its new value is what does not fit.
    """
    owner, name = key
    module = model.get_submodule(owner)
    if isinstance(module, STANDARD):
        return owner in {result.broken, *(item.step.module for item in result.stale)}
    stale = [item.computed for item in result.stale if related(owner, item.step.module)]
    if foreseen:
        return getattr(module, name) in stale
    return bool(stale) or related(owner, result.broken)
