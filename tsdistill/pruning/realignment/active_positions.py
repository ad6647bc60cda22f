"""Positions of a layer's output on which the model's output depends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks, branched
from tsdistill.statistics.derivatives import projected
from tsdistill.statistics.sample_blocks import channels_first, flat

SAMPLES = 8
"""Samples whose derivatives are compared: two halves of four must agree; a zero by chance in all four of one
half alone would make them differ."""


def active_positions(model: nn.Module, dims: Mapping[str, int], x: Any, seed: int = 0) -> dict[str, Tensor]:
    """Positions on which the model's output depends, of modules where it does not depend on all.

    After the last attention of a transformer that is read off its class token, only that token counts; of a
    map of which a strided layer of size 1 reads every other position, those. To fit a layer where it is never
    read would be fitting something else.

    Args:
        model: at rest.
        dims: module that gives one tensor -> the dimension of its output along which the nodes lie.
        x: some samples.
        seed: of the random projection of the output whose derivative is looked at.

    Returns:
        module -> int64 ``[p]``, positions among the flattened ones of a sample. Where the derivative's zeros
        are not those of the architecture (the first half of the samples has others than the second), where
        nothing can be derived, and where every position counts, there is no entry.
    """
    reached: dict[str, Tensor] = {}
    modules = dict(model.named_modules())

    def tap(call: ModuleCall) -> Tensor | None:
        name, dim = call.name, dims[call.name]

        def look(slope: Tensor) -> None:
            reached[name] = (flat(channels_first(slope, dim)) != 0).any(1)

        return branched(call.output, look) if isinstance(call.output, Tensor) else None

    try:
        with ModuleHooks({name: modules[name] for name in dims}, after=tap), torch.enable_grad():
            outputs, projections = projected(model, x, seed)
            if outputs:
                torch.autograd.backward(outputs, projections)
    except (TsdistillError, RuntimeError):  # there is nothing that can be derived
        return {}
    return {name: where for name, each in reached.items() if (where := _some(each)) is not None}


def _some(reached: Tensor) -> Tensor | None:
    """The positions, from ``[N, P]``; ``None`` where there is nothing to choose."""
    middle = len(reached) // 2
    first, second = reached[:middle].any(0), reached[middle:].any(0)
    if middle < 2 or not bool((first == second).all()) or bool(first.all()) or not bool(first.any()):
        return None
    return first.nonzero().flatten()
