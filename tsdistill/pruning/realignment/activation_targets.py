"""How far a node's value is to move so that what its non-linearity makes of it is right."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tsdistill.runtime.calls import Call

_FLAT_BELOW = {"relu": 0.0, "relu_": 0.0, "relu6": 0.0, "gelu": -3.0, "silu": -6.0, "hardswish": -3.0}


def straight(now: Tensor, wanted: Tensor) -> Tensor:
    """The whole way."""
    return wanted - now


def behind(bend: Call | None) -> Callable[[Tensor, Tensor], Tensor]:
    """The way to go when only what is behind the non-linearity ``bend`` counts.

    Where the wanted value lies on a flat stretch of it (below 0 of a ReLU), it is enough to get there: the
    majorise-minimise step of the squared error behind the non-linearity, the curvature taken as 1.
    """
    if bend is None:
        return straight
    low, high = -float("inf"), float("inf")
    if bend.name in ("hardtanh", "hardtanh_"):
        given = [*bend.args[1:3], bend.kwargs.get("min_val"), bend.kwargs.get("max_val")]
        low, high = [value for value in given if value is not None][:2] if given else (-1.0, 1.0)
    elif bend.name in _FLAT_BELOW:
        low = _FLAT_BELOW[bend.name]
        high = 6.0 if bend.name == "relu6" else high

    def aim(now: Tensor, wanted: Tensor) -> Tensor:
        goal = torch.where(wanted <= low, now.clamp(max=low), wanted)
        goal = torch.where(wanted >= high, now.clamp(min=high), goal)
        return goal - now

    return aim
