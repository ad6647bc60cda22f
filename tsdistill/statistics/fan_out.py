"""How a layer reads nodes: its weight, the covariance of its inputs, and how the output depends on its
output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.models.layers.effective_weights import effective_weight
from tsdistill.models.layers.layer_kind import groups_of, weight_blocks
from tsdistill.runtime.hooks import InputHooks, ModuleCall, ModuleHooks, branched, tapped
from tsdistill.runtime.seeds import mixed_seed
from tsdistill.statistics import distributed
from tsdistill.statistics.centred_sums import gram
from tsdistill.statistics.covariance import Covariance, RunningCovariance
from tsdistill.statistics.sample_blocks import channels_first, flat, widen
from tsdistill.statistics.sites import ModelSites, ReaderInput
from tsdistill.statistics.unfold import (
    channel_dim,
    fan_in_rows,
    has_known_rows,
    has_rows,
    inputs_per_output,
    output_count,
)

WIDEST = 576
"""Entries (channels times kernel taps) up to which the covariance of all inputs of a convolution's kernel is
measured. Twice as many cost, at 16 rows an entry, what the forward pass of the layer costs over a hundred
images. Beyond, the correlation of taps and the covariance of channels stand for it."""

_MOST_OUTPUTS = 4096
"""Output channels beyond which a layer has no fan-out: E[β] has the square of this number of entries."""

_ROWS, _ROWS_PER_ENTRY = 4096, 16
_TAP_ROWS = 1024
"""Kernel positions (over all samples) from which the correlation of taps is estimated, which is a mean over
all channels as well: its standard error is at most 1 / sqrt(1024) = 0.03, and as a rule far less."""

_UNKNOWN = 512
"""Samples that are assumed where a stream does not say its length."""


@dataclass(frozen=True, eq=False)
class FanOut:
    """A reading layer ``y = W x``.

    Of a layer that has more outputs than inputs, y stands for what it reads, x itself, and ``weight`` is the
    identity: E[β] of x through the layer is Wᵀ E[β] W, smaller and sooner summed.

    Attributes:
        weight: float64 ``[O, F·taps]``, the entries of each channel adjacent.
        taps: kernel positions at which every channel is read.
        covariance: of x ``[F·taps]``; of its channels ``[F]`` where ``nearby`` says how their taps are
            correlated.
        beta: float64 ``[O, O]``, E[β] of y: the second moment of the output's derivative by it, summed over
            positions (arXiv 1909.13458, Lemma 1: V ᵀ V for the layers above).
        nearby: float64 ``[taps, taps]``, correlation of a channel's values at two taps, a mean over channels;
            ``None`` where the covariance is of all entries.
    """

    weight: np.ndarray
    taps: int
    covariance: Covariance
    beta: np.ndarray
    nearby: np.ndarray | None = None

    def gram(self, inputs: np.ndarray) -> np.ndarray:
        """``inputsᵀ Ω inputs`` of the channels, with Ω = Σ_ab nearby_ab W_aᵀ E[β] W_b over the taps.

        tr(Ω C) is the expected squared change of the output where Cov(x_a, x_b) = nearby_ab C, C the
        covariance of the channels (Grosse and Martens 2016, "A Kronecker-factored approximate Fisher matrix
        for convolution layers", assume the same).

        Args:
            inputs: ``[F, n]``; the result has its precision.

        Returns:
            ``[n, n]``.
        """
        assert self.nearby is not None
        kind = inputs.dtype
        by_tap = self.weight.reshape(len(self.weight), -1, self.taps).transpose(2, 0, 1).astype(kind)
        mixed = np.tensordot(self.nearby.astype(kind), self.beta.astype(kind) @ by_tap, 1)
        omega = np.tensordot(by_tap, mixed, ((0, 1), (0, 1)))
        return inputs.T @ (omega @ inputs)


class FanOutCollector:
    """The fan-out of every site that a plain linear layer or an ungrouped convolution reads.

    Inputs of kernels (im2col) are measured in the pass over the data in which the sites are observed, `batch`
    by batch; E[β] in backward passes (see `SensitivityPasses`), which run inside the block.
    Sites of other layers have no fan-out.

    Args:
        model: the model; it is left as it was.
        sites: its sites.
        seed: of the positions at which kernels are measured.
        expected: how many samples there are, ``None`` when unknown.
    """

    def __init__(
        self, model: nn.Module, sites: ModelSites, seed: int = 0, expected: int | None = None
    ) -> None:
        self._modules = dict(model.named_modules())
        self._wanted = {
            key: site
            for key, site in sites.sites.items()
            if site.layout is None and _suits(self._modules[site.module])
        }
        self._kernels = _Kernels(model, self._wanted, seed, expected)
        self._betas = _OutputSensitivities(model, self._wanted)

    def batch(self, index: int) -> AbstractContextManager[Any]:
        """Measure the inputs of kernels in the batch of that number, which runs inside the block."""
        return self._kernels.batch(index)

    def begin(self, first: int, count: int) -> None:  # noqa: ARG002
        """The samples ``first`` to ``first + count`` run forward and backward now."""
        self._betas.seen += count

    def __enter__(self) -> None:
        self._betas.__enter__()

    def __exit__(self, *error: object) -> None:
        self._betas.__exit__(*error)

    def finish(self, covariances: Mapping[str, Covariance]) -> dict[str, FanOut]:
        """By site, of all processes together.

        Args:
            covariances: of the channels at the sites, where they were observed.
        """
        met = {**covariances, **self._kernels.finish()}
        betas, nearby = self._betas.finish(), self._kernels.correlations()
        result = {}
        for key, site in self._wanted.items():
            module = self._modules[site.module]
            if key in covariances and key in betas and (key in nearby or not self._kernels.wide(key)):
                weight = np.eye(site.width) if _expands(module, site) else _matrix(module).numpy()
                result[key] = FanOut(weight, _taps(module, site), met[key], betas[key], nearby.get(key))
        return result


def _expands(module: nn.Module, site: ReaderInput) -> bool:
    """Whether a layer has more outputs than inputs, each of which it reads once."""
    return _taps(module, site) == 1 and output_count(module) > site.width


def _matrix(module: nn.Module) -> Tensor:
    """The weight of a layer with one group of channels as ``[outputs, inputs times taps]``, float64."""
    weight = effective_weight(module)
    assert weight is not None
    return weight_blocks(module, weight.read().double().cpu())[0].flatten(1)


def _taps(module: nn.Module, site: ReaderInput) -> int:
    return inputs_per_output(module)[1] // site.width


def _suits(module: nn.Module) -> bool:
    return has_known_rows(module) and groups_of(module) == 1 and output_count(module) <= _MOST_OUTPUTS


class _Kernels:
    """Inputs of the kernels of some convolutions: the covariance of all entries; of wide kernels the moments
    of the taps of each channel."""

    def __init__(
        self, model: nn.Module, sites: Mapping[str, ReaderInput], seed: int, expected: int | None
    ) -> None:
        modules = {key: model.get_submodule(site.module) for key, site in sites.items()}
        self._taps = {key: _taps(modules[key], site) for key, site in sites.items()}
        self._entries = {key: self._taps[key] * site.width for key, site in sites.items()}
        kernels = {key: module for key, module in modules.items() if self._taps[key] > 1}
        self._running = {key: RunningCovariance() for key in kernels if not self.wide(key)}
        self._products: dict[str, Tensor] = {}
        self._seed, self._expected = seed, expected
        self._drawn = torch.Generator()
        self._hooks = ModuleHooks(kernels, after=self._look)

    def wide(self, key: str) -> bool:
        """Whether the covariance of all entries is not measured."""
        return self._taps[key] > 1 and self._entries[key] > WIDEST

    def batch(self, index: int) -> ModuleHooks:
        """Measure the batch of that number, which runs inside the block."""
        self._drawn.manual_seed(mixed_seed(self._seed, index))
        return self._hooks

    def _look(self, call: ModuleCall) -> None:
        name, x, output = call.name, call.args[0], call.output
        if not has_rows(call.module, x, output):
            return
        positions = output.shape[2:].numel()
        wanted = _TAP_ROWS if self.wide(name) else max(_ROWS, _ROWS_PER_ENTRY * self._entries[name])
        take = min(positions, ceil(wanted / (self._expected or _UNKNOWN)))
        places = torch.randperm(positions, generator=self._drawn)[:take].to(output.device)
        rows = fan_in_rows(call.module, x.detach(), places)[0]
        if self.wide(name):
            values = rows.cpu().reshape(len(rows), -1, self._taps[name]).permute(1, 2, 0).double()
            values = torch.cat([values, torch.ones_like(values[:, :1])], 1)
            self._products[name] = self._products.get(name, 0.0) + values @ values.mT
        else:
            self._running[name].update(rows)

    def finish(self) -> dict[str, Covariance]:
        """The covariance of all entries by site, of all processes together."""
        distributed.combine_covariances(self._running)
        return {key: each.finish() for key, each in self._running.items() if each.seen}

    def correlations(self) -> dict[str, np.ndarray]:
        """The correlation of taps by site, of all processes together."""
        products = distributed.sum_all_over_processes(self._products)
        return {key: _correlation(total) for key, total in products.items()}


def _correlation(total: Tensor) -> np.ndarray:
    """The mean over channels of the covariance of taps in parts of its mean diagonal.

    Args:
        total: float64 ``[F, taps + 1, taps + 1]``, sums of products of the values and a 1.
    """
    second, first = total[:, :-1, :-1] / total[:, -1:, -1:], total[:, :-1, -1:] / total[:, -1:, -1:]
    covariance = second - first @ first.mT
    variance = covariance.diagonal(dim1=1, dim2=2).mean(1)
    live = variance > 1e-12 * second.diagonal(dim1=1, dim2=2).mean(1)
    if not bool(live.any()):
        return np.eye(covariance.shape[1])
    mean: np.ndarray = (covariance[live] / variance[live, None, None]).mean(0).numpy()
    return mean


class _OutputSensitivities:
    """E[β] of the outputs of the layers at some sites, or of their inputs where these are fewer; backward
    passes run inside the block."""

    def __init__(self, model: nn.Module, sites: Mapping[str, ReaderInput]) -> None:
        modules = {key: model.get_submodule(site.module) for key, site in sites.items()}
        inputs = {key: site for key, site in sites.items() if _expands(modules[key], site)}
        outputs = {key: module for key, module in modules.items() if key not in inputs}
        looks = {site.module: [self._tap_input(site)] for site in inputs.values()}
        self._hooks = (ModuleHooks(outputs, after=self._tap), InputHooks(model, looks))
        self._totals: dict[str, Tensor] = {}
        self.seen = 0

    def __enter__(self) -> None:
        for hooks in self._hooks:
            hooks.__enter__()

    def __exit__(self, *error: object) -> None:
        for hooks in self._hooks:
            hooks.__exit__(*error)

    def _collect(self, key: str, dim: int) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            block = widen(flat(channels_first(gradient, dim))).transpose(1, 2).flatten(0, 1)
            self._totals[key] = self._totals.get(key, 0.0) + gram(block).double().cpu()

        return hook

    def _tap(self, call: ModuleCall) -> Tensor:
        return branched(call.output, self._collect(call.name, channel_dim(call.module)))

    def _tap_input(self, site: ReaderInput) -> Callable[[Tensor], Tensor]:
        collect = self._collect(site.key, site.channel_dim)
        return lambda x: tapped(x, collect)

    def finish(self) -> dict[str, np.ndarray]:
        """By site, of all processes together."""
        seen = distributed.total(self.seen)
        return {
            key: total.numpy() / seen
            for key, total in distributed.sum_all_over_processes(self._totals).items()
        }
