"""What is measured on a pruned network."""

from __future__ import annotations

import copy
from typing import Any

import fashion
import torch
from torch import Tensor, nn

from tsdistill.evaluation import macs, parameters
from tsdistill.runtime.latency import latency

from .cases import Case


def sizes(case: Case, model: nn.Module) -> dict[str, float]:
    """Parts of the dense network's MACs and parameters that are kept."""
    x = case.example
    return {
        "macs": macs(model, x) / macs(case.dense, x),
        "params": parameters(model) / parameters(case.dense),
    }


def speed(case: Case, model: nn.Module) -> float:
    """How many times the dense network's throughput at batch 32.

    Both networks take turns; medians of up to 25 passes each.
    """
    x, _ = case.calibration(0, 32)
    slow, fast = latency([case.dense, model], x, repeats=25, max_seconds=10)
    return slow / fast


def has_running_statistics(model: nn.Module) -> bool:
    """Whether there is a batch norm to renew."""
    return any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def renewed(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy whose batch norms' running statistics are those of ``x``, averaged over batches of 256."""
    model = copy.deepcopy(model).eval()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for part in x.split(256):
            model(part)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    return model.eval()


def tuned(case: Case, model: nn.Module) -> nn.Module:
    """A copy after one epoch of the training recipe at a small rate."""
    model = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return fashion.train(model, 1, rate=case.rate, quiet=True)


def cause(error: BaseException) -> str:
    """An exception as one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures with as many digits as they mean something."""
    return {name: round(v, 4) if isinstance(v, float) else v for name, v in figures.items()}
