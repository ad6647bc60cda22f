"""How far a model's outputs are from the dense model's: the currency in which kinds of groups compete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from tsdistill.runtime.caches import without_cache
from tsdistill.runtime.forward import forward
from tsdistill.runtime.modes import evaluation_mode, judged
from tsdistill.runtime.nests import tensors

_LARGEST = 2**28
"""Entries of the dense model's outputs that are kept, a gibibyte of float32; batches beyond are not looked
at."""


class OutputDivergence:
    """KL divergence of outputs, taken as logits along their last dimension, from the dense model's.

    Args:
        dense: it is left as it is.
        batches: inputs; as many are looked at as `_LARGEST` allows, at least one.

    Raises:
        TsdistillError: the dense model's forward fails.
    """

    def __init__(self, dense: nn.Module, batches: Iterable[Any]) -> None:
        self._known: list[tuple[Any, Tensor]] = []
        entries = 0
        for x in batches:
            wanted = _log_probabilities(dense, x)
            entries += wanted.numel()
            if self._known and entries > _LARGEST:
                break
            self._known.append((x, wanted))

    def of(self, model: nn.Module) -> float:
        """Mean over positions of ``KL(dense ‖ model)``, in nats."""
        total = rows = 0.0
        for x, wanted in self._known:
            output = _log_probabilities(model, x)
            total += float(kl_div(output, wanted, reduction="sum", log_target=True))
            rows += wanted.numel() / wanted.shape[-1]
        return total / rows


def _log_probabilities(model: nn.Module, x: Any) -> Tensor:
    with torch.no_grad(), evaluation_mode(model), without_cache(model):
        outputs = tensors(judged(forward(model, x)))
    return log_softmax(next(y for y in outputs if y.is_floating_point()).float(), dim=-1)
