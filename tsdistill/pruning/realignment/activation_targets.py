"""Targets before a non-linearity: the change of a node's value that makes its activation right."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tsdistill.runtime.calls import Call

_FLAT_BELOW = {"relu": 0.0, "relu_": 0.0, "relu6": 0.0, "gelu": -3.0, "silu": -6.0, "hardswish": -3.0}


def straight(now: Tensor, wanted: Tensor) -> Tensor:
    """The difference itself, for a layer without a non-linearity."""
    return wanted - now


def activation_target(activation: Call | None) -> Callable[[Tensor, Tensor], Tensor]:
    """The change of a value ``(now, wanted)`` when only the value after the non-linearity ``activation``
    counts.

    Where the wanted value lies on a flat stretch of it (below 0 of a ReLU), it is enough to reach it: the
    majorise-minimise step of the squared error after the non-linearity, the curvature taken as 1.
    """
    if activation is None:
        return straight
    low, high = -float("inf"), float("inf")
    if activation.name in ("hardtanh", "hardtanh_"):
        given = [*activation.args[1:3], activation.kwargs.get("min_val"), activation.kwargs.get("max_val")]
        low, high = [value for value in given if value is not None][:2] if given else (-1.0, 1.0)
    elif activation.name in _FLAT_BELOW:
        low = _FLAT_BELOW[activation.name]
        high = 6.0 if activation.name == "relu6" else high

    def aim(now: Tensor, wanted: Tensor) -> Tensor:
        goal = torch.where(wanted <= low, now.clamp(max=low), wanted)
        goal = torch.where(wanted >= high, now.clamp(min=high), goal)
        return goal - now

    return aim
