"""Weight norm across a cut: weights stay as they were though the vectors behind them are shorter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from tsdistill.torch_private import pre_hooks_of


def rescale_lengths(
    model: nn.Module, small: nn.Module, leaving: Mapping[tuple[str, int], np.ndarray]
) -> None:
    """Set the lengths of weight-normed layers of ``small``, cut out of ``model``, to those of their weights.

    w = g v / ‖v‖: where v has lost coordinates, g goes by the same factor as ‖v‖, and w stays as it was.
    """
    normed = list(_normed(model))
    if not normed:
        return
    before, after = dict(model.named_parameters()), dict(small.named_parameters())
    for length, direction, dim in normed:
        old, new = before.get(direction), after.get(direction)
        if old is None or new is None or old.shape == new.shape:
            continue
        was, now = (torch.norm_except_dim(v.detach(), 2, dim) for v in (old, new))
        gone = leaving.get((direction, dim))
        if gone is not None and was.ndim:
            stays = np.setdiff1d(np.arange(was.shape[dim]), gone)
            was = was.index_select(dim, torch.from_numpy(stays).to(was.device))
        with torch.no_grad():
            after[length].mul_((now / was).reshape(after[length].shape))


def _normed(model: nn.Module) -> Iterator[tuple[str, str, int]]:
    """``(length, direction, dimension)`` of every weight norm: names of its two parameters."""
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for hook in pre_hooks_of(module):
            if type(hook).__name__ == "WeightNorm":
                yield f"{prefix}{hook.name}_g", f"{prefix}{hook.name}_v", hook.dim
        for name, steps in getattr(module, "parametrizations", {}).items():
            if len(steps) == 1 and type(steps[0]).__name__ == "_WeightNorm":
                place = f"{prefix}parametrizations.{name}.original"
                yield f"{place}0", f"{place}1", steps[0].dim
