"""How much the output depends on each node: strength, its standard error, and fan-out norms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.models.layers.effective_weights import effective_weight
from tsdistill.models.layers.layer_kind import kind_of
from tsdistill.runtime.finite import checked_forward
from tsdistill.runtime.hooks import InputHooks, Look, tapped
from tsdistill.runtime.nests import count
from tsdistill.statistics import distributed
from tsdistill.statistics.block_sums import BlockMeans, BlockSums
from tsdistill.statistics.covariance import Covariance
from tsdistill.statistics.derivatives import (
    every_direction,
    floating_outputs,
    outputs_per_sample,
    random_direction,
)
from tsdistill.statistics.sample_blocks import channels_first, flat, spread, widen
from tsdistill.statistics.sites import GroupSite, ModelSites, ReaderInput
from tsdistill.tracing.graph import Group, Reader


class SensitivityCollector:
    """E[β_cc] of every feature of every site: the squared norm of the output Jacobian's column.

    It is E (rᵀ ∂f/∂h_c)² over directions r, where f is all floating outputs flattened together. The
    derivative runs through the reading layer only, not through other consumers of the same tensor, and is
    squared before it is summed over positions (arXiv 1909.13458, Lemma 1: β_kk = v_kᵀ v_k).

    Args:
        model: the model, at rest.
        sites: its sites.

    Attributes:
        outputs: the largest number of outputs of a sample in any batch; ``None`` where samples are not rows
            of the output, or where nothing has run.
        exact: whether all batches that have run were derived from every one of these.
    """

    def __init__(self, model: nn.Module, sites: ModelSites) -> None:
        self._model, self._sites = model, sites.sites
        self.sums = BlockSums()
        self.outputs: int | None = None
        self.exact = True
        self._power = 0.0
        hooks: dict[str, list[Look]] = {}
        for site in self._sites.values():
            hooks.setdefault(site.module, []).append(_tap(site, self.sums))
        self._hooks = InputHooks(model, hooks)

    def run(
        self,
        x: Any,
        first: int,
        seed: int,
        *,
        most: int = 0,
        role: str = "model",
        observing: ExitStack | None = None,
    ) -> int:
        """A forward pass, and backward passes from directions of what it gives; returns their number.

        Args:
            x: the samples from number ``first`` on.
            first: that number.
            seed: of the random direction.
            most: an output that has no more figures for a sample is derived from every one of them, in place
                of one random direction.
            role: how messages call the model.
            observing: contexts that have been entered for the forward pass; they are left before the first
                backward pass.

        Raises:
            TsdistillError: the model has no floating output, one that is not finite, or it cannot be
                differentiated.
        """
        self.sums.begin(first, count(x))
        with torch.enable_grad(), self._hooks:
            with observing or nullcontext():
                returned = checked_forward(self._model, x, role, f"in the samples from number {first + 1} on")
            every, outputs = floating_outputs(returned)
            if self._sites and not outputs:
                raise TsdistillError(
                    "the model's output cannot be differentiated (it detaches or runs without gradients); "
                    "strength cannot be measured"
                )
            figures = outputs_per_sample(outputs, x)
            exact = figures is not None and figures <= most
            self.outputs = max(figures, self.outputs or 0) if figures is not None else None
            self.exact = self.exact and exact
            self._power += sum(float(y.detach().double().square().sum()) for y in every)
            directions = every_direction(outputs, seed) if exact else iter([random_direction(outputs, seed)])
            passes = 0
            for direction in directions:
                torch.autograd.backward(outputs, direction, retain_graph=exact)
                passes += 1
        return passes

    def finish(self) -> SiteSensitivity:
        """What was seen, in all processes together."""
        blocks = self.sums.finish()
        power = sum(distributed.gather(self._power)) / max(int(blocks.samples.sum()), 1)
        widths = {key: site.width for key, site in self._sites.items()}
        return SiteSensitivity(blocks, widths, power)


def _tap(site: ReaderInput, sums: BlockSums) -> Callable[[Tensor], Tensor]:
    def collect(gradient: Tensor) -> None:
        block = flat(channels_first(gradient, site.channel_dim))
        if site.layout is not None:
            block = spread(block, site.layout)
        sums.add(site.key, widen(block).square().sum(2))

    return lambda x: tapped(x, collect)


class SiteSensitivity:
    """E[β_cc] by site, and how sure it is.

    Attributes:
        blocks: the same by block of samples.
        mean: site key -> float64 ``[F]``; a site that the output does not depend on has zeros.
        power: E‖f‖², the mean squared norm of the output.
    """

    def __init__(self, blocks: BlockMeans, widths: Mapping[str, int], power: float) -> None:
        self.blocks, self.power = blocks, power
        self.mean = {
            key: blocks.mean(blocks.means[key]) if key in blocks else np.zeros(width)
            for key, width in widths.items()
        }

    def strength_error(
        self,
        readings: Iterable[GroupSite],
        variances: Mapping[str, np.ndarray],
        strength: np.ndarray,
        products: BlockMeans | None = None,
        group: str = "",
    ) -> np.ndarray:
        """Standard error of a group's strengths, over samples and random directions, float64 ``[nodes]``.

        Of s² it comes from the blocks of samples. One standard error e more would make s to sqrt(s² + e): the
        step to there is returned, e / (2 s) where s is large and sqrt(e) where it is 0. No larger than the
        strength itself where there are too few samples to tell.

        Args:
            readings: where the group is read.
            variances: site key -> float64 ``[F]``, what E[β] of every feature is multiplied with.
            strength: of its nodes.
            products: by group what products of its nodes add to s² (see `products.Products`).
            group: its name there.
        """
        squared: np.ndarray | None = None
        for reading in readings:
            if reading.site in self.blocks and reading.site in variances:
                share = self.blocks.means[reading.site] * variances[reading.site]
                part = share[:, reading.features].sum(2)
                squared = part if squared is None else squared + part
        if products is not None and group in products:
            more = products.means[group]
            squared = more if squared is None else squared + more
        if squared is None:
            return np.zeros(len(strength))
        error = self.blocks.error(squared)
        step: np.ndarray = np.where(np.isfinite(error), np.sqrt(strength**2 + error) - strength, strength)
        return step


def sensitivity_of(
    readings: Iterable[GroupSite], sensitivity: Mapping[str, np.ndarray], size: int
) -> np.ndarray:
    """E[β_kk] of a group's nodes, summed over what reads them, float64 ``[size]``."""
    total = np.zeros(size)
    for reading in readings:
        if reading.site in sensitivity:
            total += sensitivity[reading.site][reading.features].sum(1)
    return total


def strength(
    readings: Iterable[GroupSite],
    covariances: Mapping[str, Covariance],
    sensitivity: Mapping[str, np.ndarray],
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


def strength_and_error(
    readings: Iterable[GroupSite],
    covariances: Mapping[str, Covariance],
    sensitivity: SiteSensitivity,
    size: int,
    products: BlockMeans | None = None,
    group: str = "",
) -> tuple[np.ndarray, np.ndarray]:
    """Strength of a group's nodes and its standard error, float64 ``[nodes]`` each.

    Args:
        readings: where the group is read.
        covariances: of the sites.
        sensitivity: of the output.
        size: number of nodes.
        products: by group what products of its nodes add to s² (see `products.Products`).
        group: its name there.
    """
    readings = tuple(readings)
    measured = strength(readings, covariances, sensitivity.mean)
    values = np.zeros(size) if measured is None else measured
    if products is not None and group in products:
        values = np.sqrt(values**2 + products.mean(products.means[group]))
    seen = {r.site: covariances[r.site].var for r in readings if r.site in covariances}
    return values, sensitivity.strength_error(readings, seen, values, products, group)


def column_norms(model: nn.Module, reader: Reader) -> np.ndarray:
    """Squared norms ``[nodes, m]`` of the weights that read each coordinate (kernel included)."""
    module = dict(model.named_modules()).get(reader.module) if reader.module is not None else None
    effective = effective_weight(module) if module is not None else None
    weight = _weight(model, reader.param) if effective is None else effective.read()
    kind = kind_of(module) if module is not None and effective is not None else None
    dim = reader.dim if kind is None else 1 - kind.output_dim
    squares = widen(weight).square().double().cpu()
    groups = getattr(module, "groups", 1)
    if groups > 1 and dim == 1:
        blocks = squares.reshape(groups, squares.shape[0] // groups, squares.shape[1], -1)
        flat = blocks.sum((1, 3)).reshape(-1)
    else:
        flat = squares.movedim(dim, 0).flatten(1).sum(1)
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
    model: nn.Module, readings: Iterable[GroupSite], covariances: Mapping[str, Covariance], size: int
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
