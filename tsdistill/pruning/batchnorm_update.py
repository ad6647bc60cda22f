"""Batch norms follow a cut: their running statistics move as the statistics of their inputs have moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.models.layers.layer_kind import batch_norms
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import count
from tsdistill.statistics.centred_sums import accumulator_device
from tsdistill.statistics.sample_blocks import widen
from tsdistill.torch_private import BatchNorm
from tsdistill.tracing.graph import NodeGraph

_SAMPLES = 128
_LARGEST = 16.0


def match_norms(
    dense: nn.Module,
    small: nn.Module,
    graph: NodeGraph,
    removed: Mapping[str, np.ndarray],
    batches: Iterable[tuple[Any, Any]],
) -> int:
    """Let every batch norm of ``small`` give channels the mean and variance that they have in ``dense``.

    On one batch (up to 128 samples) and in forward order: ``mean' = μ_s - (μ_d - mean) √q`` and
    ``var' + ε = (var + ε) q`` with ``q = σ_s² / σ_d²``, where μ and σ are those of the norm's input in the
    small and the dense model, and mean and var what the dense model has stored. What these say beyond this
    batch is kept, so the data need not look like the training data; where nothing has moved nothing changes.

    Args:
        dense: the model before the cut.
        small: the cut model; its running statistics are changed in place.
        graph: node graph of ``dense``.
        removed: group -> nodes that have left.
        batches: yields ``(x, y)``.

    Returns:
        number of norms that were looked at.
    """
    if not batch_norms(small):
        return 0
    x = _one_batch(batches)
    kept = _kept_channels(dense, graph, removed)
    known: dict[str, tuple[Tensor, ...]] = {}
    calls: dict[str, int] = {}

    def learn(name: str, norm: BatchNorm, moments: tuple[Tensor, Tensor]) -> None:
        calls[name] = calls.get(name, 0) + 1
        index = kept[name].to(moments[0].device)
        stored = (norm.running_mean, norm.running_var)
        known[name] = tuple(widen(value)[index] for value in (*moments, *stored) if value is not None)

    def follow(name: str, norm: BatchNorm, moments: tuple[Tensor, Tensor]) -> None:
        if calls.get(name) == 1:
            _move(norm, moments, known[name])

    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(dense))
        stack.enter_context(evaluation_mode(small))
        stack.enter_context(torch.no_grad())
        _run(dense, learn, x)
        _run(small, follow, x)
    return sum(number == 1 for number in calls.values())


def _one_batch(batches: Iterable[tuple[Any, Any]]) -> Any:
    """The first samples in one piece (the first batch alone when it is not a tensor)."""
    taken: list[Tensor] = []
    for x, _ in batches:
        if not isinstance(x, Tensor):
            return x
        taken.append(x)
        if sum(count(part) for part in taken) >= _SAMPLES:
            break
    return torch.cat(taken)[:_SAMPLES]


def _kept_channels(
    dense: nn.Module, graph: NodeGraph, removed: Mapping[str, np.ndarray]
) -> dict[str, Tensor]:
    stays = {name: np.ones(norm.num_features, dtype=bool) for name, norm in batch_norms(dense).items()}
    for group in graph.groups:
        nodes = removed.get(group.name)
        for slot in group.slots if nodes is not None else ():
            owner, _, leaf = slot.param.rpartition(".")
            if leaf == "running_mean" and owner in stays:
                stays[owner][slot.coords[nodes].reshape(-1)] = False
    return {name: torch.from_numpy(np.flatnonzero(flags)) for name, flags in stays.items()}


def _run(model: nn.Module, call: Callable[[str, BatchNorm, tuple[Tensor, Tensor]], None], x: Any) -> None:
    def before(each: ModuleCall) -> None:
        assert isinstance(each.module, BatchNorm)
        call(each.name, each.module, _moments(each.args[0].detach()))

    with ModuleHooks(batch_norms(model), before=before):
        forward(model, x)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel; in float64 where the squares overflow float32."""
    x, dims = widen(x), [d for d in range(x.ndim) if d != 1]
    var, mean = torch.var_mean(x, dim=dims, correction=0)
    if not bool(torch.isfinite(var).all()) and accumulator_device(x.device) == x.device:
        var, mean = torch.var_mean(x.double(), dim=dims, correction=0)
    return mean, var


def _move(norm: BatchNorm, now: tuple[Tensor, Tensor], then: tuple[Tensor, ...]) -> None:
    """Set the running statistics of ``norm`` from its input's moments and what the dense model had."""
    mean, var, stored_mean, stored_var = then
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if mean.shape != norm.running_mean.shape:
        return
    ratio = torch.where(var > 0, now[1] / var.clamp_min(1e-30), torch.ones_like(var))
    ratio = ratio.clamp(1 / _LARGEST, _LARGEST)
    norm.running_mean.copy_(now[0] - (mean - stored_mean) * ratio.sqrt())
    norm.running_var.copy_(((stored_var + norm.eps) * ratio - norm.eps).clamp_min(0))
