"""How much the output depends on each node: strength from random output projections, and fan-out norms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.alignment.observing import processes
from tsdistill.alignment.observing.covariance import Covariance
from tsdistill.alignment.observing.hooks import Hooks, Look
from tsdistill.alignment.observing.progress import Progress
from tsdistill.alignment.observing.samples import channels_first, flat, spread, widen
from tsdistill.alignment.observing.sites import Reading, Site, Sites
from tsdistill.alignment.observing.sums import accumulator_device
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.forward import at_rest, count, forward, head, tensors
from tsdistill.models.layers.effective_weights import effective_weight
from tsdistill.tracing.graph import Group, Reader


def output_sensitivity(
    model: nn.Module,
    sites: Sites,
    batches: Iterable[tuple[Any, Any]],
    *,
    samples: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """E[β_cc] of every feature of every site: the squared norm of the output Jacobian's column.

    Estimated as E (rᵀ ∂f/∂h_c)² with r ~ N(0, I) drawn for every sample (one backward pass a batch), where
    f is all floating outputs flattened together. The derivative runs through the reading layer only, not
    through other consumers of the same tensor, and is squared before it is summed over positions (arXiv
    1909.13458, Lemma 1: β_kk = v_kᵀ v_k).

    Args:
        model: the model; its parameters and their gradients stay as they are.
        sites: its sites.
        batches: yields ``(x, y)``.
        samples: number of samples after which to stop.
        seed: of the projections.
        progress: is told how many samples are done.

    Returns:
        site key -> float64 ``[F]``; a site that the output does not depend on has zeros.

    Raises:
        TsdistillError: the model has no floating output or it cannot be differentiated.
    """
    running = Sensitivity(model, sites)
    with at_rest(model):
        for index, first, (x, _) in processes.share(batches):
            if first >= samples:
                break
            x = head(x, samples - first)
            running.run(x, hash((seed, index)) % 2**63)
            if progress is not None:
                progress("strength", first + count(x), samples)
    return running.finish()


class Sensitivity:
    """What `output_sensitivity` gathers, one backward pass after the other.

    Args:
        model: the model, at rest.
        sites: its sites.
    """

    def __init__(self, model: nn.Module, sites: Sites) -> None:
        self._model, self._sites = model, sites.sites
        self._totals: dict[str, Tensor] = {}
        self._seen = 0
        hooks: dict[str, list[Look]] = {}
        for site in self._sites.values():
            hooks.setdefault(site.module, []).append(_tap(site, self._totals))
        self._hooks = Hooks(model, hooks)

    def run(self, x: Any, seed: int) -> None:
        """A forward pass, and a backward pass from random projections of what it gives.

        Raises:
            TsdistillError: the model has no floating output or it cannot be differentiated.
        """
        with torch.enable_grad(), self._hooks:
            outputs, projections = projected(self._model, x, seed)
            if self._sites and not outputs:
                raise TsdistillError(
                    "the model's output cannot be differentiated (it detaches or runs without gradients); "
                    "strength cannot be measured"
                )
            torch.autograd.backward(outputs, projections)
        self._seen += count(x)

    def finish(self) -> dict[str, np.ndarray]:
        """Site key -> float64 ``[F]``, of all processes together."""
        seen = processes.total(self._seen)
        totals = processes.add_up_all(self._totals)
        return {
            key: totals[key].cpu().numpy() / seen if key in totals else np.zeros(site.width)
            for key, site in self._sites.items()
        }


def projected(model: nn.Module, x: Any, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """The floating outputs of a forward pass that depend on something, and random directions r ~ N(0, I) for
    them: a backward pass from these gives rᵀ ∂f.

    Raises:
        TsdistillError: there is no floating output.
    """
    generator = torch.Generator().manual_seed(seed)
    outputs = [y for y in tensors(forward(model, x)) if y.is_floating_point()]
    if not outputs:
        raise TsdistillError("the model has no floating-point output; strength cannot be measured")
    differentiable = [y for y in outputs if y.requires_grad]
    return differentiable, [_normal(y, generator) for y in differentiable]


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(device=like.device, dtype=like.dtype)


def _tap(site: Site, totals: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    def collect(gradient: Tensor) -> None:
        block = flat(channels_first(gradient, site.channel_dim))
        if site.layout is not None:
            block = spread(block, site.layout)
        squares = widen(block).square().sum((0, 2)).to(accumulator_device(block.device)).double()
        totals[site.key] = totals.get(site.key, 0.0) + squares

    def tap(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        branch = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
        branch.register_hook(collect)
        return branch

    return tap


def sensitivity_of(
    readings: Iterable[Reading], sensitivity: Mapping[str, np.ndarray], size: int
) -> np.ndarray:
    """E[β_kk] of a group's nodes, summed over what reads them, float64 ``[size]``."""
    total = np.zeros(size)
    for reading in readings:
        if reading.site in sensitivity:
            total += sensitivity[reading.site][reading.features].sum(1)
    return total


def strength(
    readings: Iterable[Reading], covariances: Mapping[str, Covariance], sensitivity: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """Scale-free strength s_k of a group's nodes: s_k² = Σ_readers Σ_features E[β] · Var.

    Returns:
        float64 ``[nodes]``, or ``None`` when no reader was seen.
    """
    total = None
    for reading in readings:
        if reading.site not in covariances or reading.site not in sensitivity:
            continue
        share = sensitivity[reading.site] * covariances[reading.site].var
        part = share[reading.features].sum(1)
        total = part if total is None else total + part
    return None if total is None else np.sqrt(total)


def column_norms(model: nn.Module, reader: Reader) -> np.ndarray:
    """Squared norms ``[nodes, m]`` of the weights that read each coordinate (kernel included)."""
    module = model.get_submodule(reader.module) if reader.module is not None else None
    effective = effective_weight(module) if module is not None else None
    weight = _weight(model, reader.param) if effective is None else effective.read()
    squares = widen(weight).square().double().cpu()
    groups = getattr(module, "groups", 1)
    if groups > 1 and reader.dim == 1:
        blocks = squares.reshape(groups, squares.shape[0] // groups, squares.shape[1], -1)
        flat = blocks.sum((1, 3)).reshape(-1)
    else:
        flat = squares.movedim(reader.dim, 0).flatten(1).sum(1)
    return flat.numpy()[reader.coords]


def _weight(model: nn.Module, name: str) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    return getattr(model.get_submodule(owner), leaf).detach()


def fan_out_norm(model: nn.Module, group: Group) -> np.ndarray:
    """‖v_k‖ over all readers of a group, float64 ``[nodes]``."""
    total = np.zeros(group.size)
    for reader in group.readers:
        total += column_norms(model, reader).sum(1)
    return np.sqrt(total)


def standardised_fan_out_norm(
    model: nn.Module, readings: Iterable[Reading], covariances: Mapping[str, Covariance], size: int
) -> np.ndarray:
    """‖v_k‖σ_k: the fan-out norm after every node is scaled to unit variance, float64 ``[nodes]``."""
    total = np.zeros(size)
    for reading in readings:
        if reading.site not in covariances:
            continue
        norms = column_norms(model, reading.reader)
        var = covariances[reading.site].var[reading.features]
        total += (norms * var).sum(1) if var.shape == norms.shape else norms.sum(1) * var.sum(1)
    return np.sqrt(total)
