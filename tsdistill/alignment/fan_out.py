"""What a layer makes of the nodes that it reads: its weight, all that the weight meets, and what the output
makes of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.alignment.observing import processes
from tsdistill.alignment.observing.covariance import Covariance, RunningCovariance
from tsdistill.alignment.observing.progress import Progress
from tsdistill.alignment.observing.rows import channel_dim, fan_in_rows, fits
from tsdistill.alignment.observing.samples import channels_first, flat, widen
from tsdistill.alignment.observing.sites import Site, Sites
from tsdistill.alignment.strength import projected
from tsdistill.evaluation.forward import at_rest, count, forward, head

WIDEST = 2304
"""Entries (channels times kernel taps) beyond which a convolution is not looked at so closely."""

_MOST_OUTPUTS = 4096
_ROWS, _ROWS_PER_ENTRY = 16384, 16
_UNKNOWN = 512


@dataclass(frozen=True, eq=False)
class FanOut:
    """A reading layer ``y = W x``.

    Attributes:
        weight: float64 ``[O, F·taps]``, the entries of each channel beside one another.
        taps: kernel positions at which every channel is read.
        covariance: of x ``[F·taps]``.
        beta: float64 ``[O, O]``, E[β] of y: the second moment of the output's derivative by it, summed over
            positions (arXiv 1909.13458, Lemma 1: V ᵀ V for the layers above).
    """

    weight: np.ndarray
    taps: int
    covariance: Covariance
    beta: np.ndarray


def fan_outs(
    model: nn.Module,
    sites: Sites,
    covariances: Mapping[str, Covariance],
    batches: Iterable[tuple[Any, Any]],
    *,
    samples: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, FanOut]:
    """The fan-out of every site that a plain linear layer or an ungrouped convolution reads.

    One pass over the data for the covariance of what kernels meet (im2col), one with a backward pass over the
    first ``samples`` for β. Sites of other layers, and of layers that are too wide, are left out.

    Args:
        model: the model; it is left as it was.
        sites: its sites.
        covariances: of the channels at these sites, where they were observed.
        batches: yields ``(x, y)``.
        samples: samples for β.
        seed: of positions and projections.
        progress: is told how many samples are done.
    """
    modules = dict(model.named_modules())
    wanted = {
        key: site
        for key, site in sites.sites.items()
        if key in covariances and site.layout is None and _suits(modules[site.module], site)
    }
    kernels = {key: site for key, site in wanted.items() if _taps(modules[site.module], site) > 1}
    met = {**covariances, **_met(model, kernels, batches, seed, progress)}
    betas = _betas(model, wanted, batches, samples, seed)
    result = {}
    for key, site in wanted.items():
        weight = modules[site.module].weight
        assert isinstance(weight, Tensor)
        if key in betas and key in met:
            flat_weight = weight.detach().double().cpu().flatten(1).numpy()
            result[key] = FanOut(flat_weight, _taps(modules[site.module], site), met[key], betas[key])
    return result


def _taps(module: nn.Module, site: Site) -> int:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight[0].numel() // site.width


def _suits(module: nn.Module, site: Site) -> bool:
    if not fits(module) or getattr(module, "groups", 1) != 1:
        return False
    weight = module._parameters.get("weight")
    if weight is None or len(weight) > _MOST_OUTPUTS:
        return False
    return _taps(module, site) == 1 or weight[0].numel() <= WIDEST


def _met(
    model: nn.Module,
    kernels: Mapping[str, Site],
    batches: Iterable[tuple[Any, Any]],
    seed: int,
    progress: Progress | None,
) -> dict[str, Covariance]:
    """Covariance of all that the kernels of some convolutions meet."""
    expected = getattr(batches, "samples", None)
    running = {key: RunningCovariance() for key in kernels}
    drawn = torch.Generator()

    def look(key: str, site: Site) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            positions = output.shape[2:].numel()
            entries = _taps(module, site) * site.width
            rows = max(_ROWS, _ROWS_PER_ENTRY * entries)
            take = min(positions, ceil(rows / (expected or _UNKNOWN)))
            places = torch.randperm(positions, generator=drawn)[:take].to(output.device)
            running[key].update(fan_in_rows(module, args[0], places)[0])

        return hook

    if kernels:
        handles = [
            model.get_submodule(site.module).register_forward_hook(look(key, site))
            for key, site in kernels.items()
        ]
        try:
            with at_rest(model), torch.no_grad():
                for index, first, (x, _) in processes.share(batches):
                    drawn.manual_seed(hash((seed, index)) % 2**63)
                    forward(model, x)
                    if progress is not None:
                        progress("what kernels meet", first + count(x), expected)
        finally:
            for handle in handles:
                handle.remove()
    processes.combine_covariances(running)
    return {key: each.finish() for key, each in running.items() if each.seen}


def _betas(
    model: nn.Module, sites: Mapping[str, Site], batches: Iterable[tuple[Any, Any]], samples: int, seed: int
) -> dict[str, np.ndarray]:
    """E[β] of the outputs of the layers at some sites, from random projections of the model's output."""
    totals: dict[str, Tensor] = {}

    def collect(key: str, dim: int) -> Any:
        def hook(gradient: Tensor) -> None:
            block = widen(flat(channels_first(gradient, dim))).transpose(1, 2).flatten(0, 1)
            totals[key] = totals.get(key, 0.0) + (block.T @ block).double().cpu()

        return hook

    def tap(key: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            # Not a view: what comes behind may work in place, which takes a view's hooks away.
            branch = (output if output.requires_grad else output.detach().requires_grad_()).clone()
            branch.register_hook(collect(key, channel_dim(module)))
            return branch

        return hook

    handles = [
        model.get_submodule(site.module).register_forward_hook(tap(key)) for key, site in sites.items()
    ]
    seen = 0
    try:
        with at_rest(model), torch.enable_grad():
            for index, first, (x, _) in processes.share(batches):
                if first >= samples:
                    break
                x = head(x, samples - first)
                outputs, projections = projected(model, x, hash((seed, index)) % 2**63)
                torch.autograd.backward(outputs, projections)
                seen += count(x)
    finally:
        for handle in handles:
            handle.remove()
    seen = processes.total(seen)
    return {key: total.numpy() / seen for key, total in processes.add_up_all(totals).items()}
