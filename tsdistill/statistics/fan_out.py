"""What a layer makes of the nodes that it reads: its weight, all that the weight meets, and what the output
makes of that."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.models.layers.effective_weights import effective_weight
from tsdistill.models.layers.layer_kind import groups_of, weight_blocks
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks, branched
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

WIDEST = 2304
"""Entries (channels times kernel taps) beyond which a convolution is not looked at so closely."""

_MOST_OUTPUTS = 4096
"""Output channels beyond which a layer has no fan-out: E[β] has the square of this number of entries."""

_ROWS, _ROWS_PER_ENTRY = 16384, 16
_UNKNOWN = 512
"""Samples that are assumed where a stream does not say its length."""


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


class FanOutCollector:
    """The fan-out of every site that a plain linear layer or an ungrouped convolution reads.

    What kernels meet (im2col) is looked at in the pass over the data in which the sites are observed, `batch`
    by batch; E[β] in backward passes (see `SensitivityPasses`), which run inside the block.
    Sites of other layers, and of layers that are too wide, have no fan-out.

    Args:
        model: the model; it is left as it was.
        sites: its sites.
        seed: of the positions at which kernels are looked at.
        expected: how many samples there are, ``None`` when nobody knows.
    """

    def __init__(
        self, model: nn.Module, sites: ModelSites, seed: int = 0, expected: int | None = None
    ) -> None:
        self._modules = dict(model.named_modules())
        self._wanted = {
            key: site
            for key, site in sites.sites.items()
            if site.layout is None and _suits(self._modules[site.module], site)
        }
        self._kernels = _KernelCovariances(model, self._wanted, seed, expected)
        self._betas = _OutputSensitivities(model, self._wanted)

    def batch(self, index: int) -> AbstractContextManager[Any]:
        """Look at what kernels meet in the batch of that number, which runs inside the block."""
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
        betas = self._betas.finish()
        result = {}
        for key, site in self._wanted.items():
            module = self._modules[site.module]
            if key in covariances and key in betas and key in met:
                flat_weight = _matrix(module).numpy()
                result[key] = FanOut(flat_weight, _taps(module, site), met[key], betas[key])
        return result


def _matrix(module: nn.Module) -> Tensor:
    """The weight of a layer with one group of channels as ``[outputs, inputs times taps]``, float64."""
    weight = effective_weight(module)
    assert weight is not None
    return weight_blocks(module, weight.read().double().cpu())[0].flatten(1)


def _taps(module: nn.Module, site: ReaderInput) -> int:
    return inputs_per_output(module)[1] // site.width


def _suits(module: nn.Module, site: ReaderInput) -> bool:
    if not has_known_rows(module) or groups_of(module) != 1 or output_count(module) > _MOST_OUTPUTS:
        return False
    return _taps(module, site) == 1 or inputs_per_output(module)[1] <= WIDEST


class _KernelCovariances:
    """Covariance of all that the kernels of some convolutions meet; false where there are none."""

    def __init__(
        self, model: nn.Module, sites: Mapping[str, ReaderInput], seed: int, expected: int | None
    ) -> None:
        modules = {key: model.get_submodule(site.module) for key, site in sites.items()}
        self._sites = {key: site for key, site in sites.items() if _taps(modules[key], site) > 1}
        self._running = {key: RunningCovariance() for key in self._sites}
        self._seed, self._expected = seed, expected
        self._drawn = torch.Generator()
        self._hooks = ModuleHooks({key: modules[key] for key in self._sites}, after=self._look)

    def batch(self, index: int) -> ModuleHooks:
        """Look at the batch of that number, which runs inside the block."""
        self._drawn.manual_seed(mixed_seed(self._seed, index))
        return self._hooks

    def _look(self, call: ModuleCall) -> None:
        module, x, output, site = call.module, call.args[0], call.output, self._sites[call.name]
        if not has_rows(module, x, output):
            return
        positions = output.shape[2:].numel()
        rows = max(_ROWS, _ROWS_PER_ENTRY * _taps(module, site) * site.width)
        take = min(positions, ceil(rows / (self._expected or _UNKNOWN)))
        places = torch.randperm(positions, generator=self._drawn)[:take].to(output.device)
        self._running[call.name].update(fan_in_rows(module, x.detach(), places)[0])

    def finish(self) -> dict[str, Covariance]:
        """By site, of all processes together."""
        distributed.combine_covariances(self._running)
        return {key: each.finish() for key, each in self._running.items() if each.seen}


class _OutputSensitivities:
    """E[β] of the outputs of the layers at some sites; backward passes run inside the block."""

    def __init__(self, model: nn.Module, sites: Mapping[str, ReaderInput]) -> None:
        modules = {key: model.get_submodule(site.module) for key, site in sites.items()}
        self._hooks = ModuleHooks(modules, after=self._tap)
        self._totals: dict[str, Tensor] = {}
        self.seen = 0

    def __enter__(self) -> None:
        self._hooks.__enter__()

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def _collect(self, key: str, dim: int) -> Any:
        def hook(gradient: Tensor) -> None:
            block = widen(flat(channels_first(gradient, dim))).transpose(1, 2).flatten(0, 1)
            self._totals[key] = self._totals.get(key, 0.0) + gram(block).double().cpu()

        return hook

    def _tap(self, call: ModuleCall) -> Tensor:
        return branched(call.output, self._collect(call.name, channel_dim(call.module)))

    def finish(self) -> dict[str, np.ndarray]:
        """By site, of all processes together."""
        seen = distributed.total(self.seen)
        return {
            key: total.numpy() / seen
            for key, total in distributed.sum_all_over_processes(self._totals).items()
        }
