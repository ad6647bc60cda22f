"""Which reading layers can take over what nodes gave them: those that are linear in a weight of their own."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tsdistill.alignment.observing.covariance import Covariance
from tsdistill.alignment.observing.sites import Site
from tsdistill.tracing.graph import Reader

_LINEAR = (nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward)


def absorbs(model: nn.Module, reader: Reader, sample: Tensor | None) -> bool:
    """Whether a reader's output is linear in its plain ``weight``, which no other layer shares.

    Layers that transform their weight first (standardised or normalised weights) do not qualify; layers of
    kinds that are not known are tried out on ``sample``.
    """
    if reader.module is None or reader.param != f"{reader.module}.weight":
        return False
    module = model.get_submodule(reader.module)
    weight = module._parameters.get("weight")
    if weight is None or weight.ndim < 2:
        return False
    owners = Counter(id(p) for m in set(model.modules()) for p in m._parameters.values() if p is not None)
    if owners[id(weight)] > 1:
        return False
    if type(module).forward in _LINEAR:
        return True
    return sample is not None and _is_linear(module, weight, sample)


def _is_linear(module: nn.Module, weight: Tensor, sample: Tensor) -> bool:
    generator = torch.Generator().manual_seed(0)
    other = torch.randn(weight.shape, generator=generator).to(weight) * weight.detach().abs().mean()
    with torch.no_grad():
        zero, first, second, both = (
            functional_call(module, {"weight": value}, (sample,))
            for value in (torch.zeros_like(weight), weight, other, weight + other)
        )
        if not isinstance(both, Tensor):
            return False
        gap = (both - first - second + zero).abs().max()
        return bool(gap <= 1e-3 * (both - zero).abs().max())


def sample_for(site: Site, covariance: Covariance | None) -> Tensor | None:
    """A small input for the layer at a site, made from what it has seen; ``None`` where that cannot be."""
    if covariance is None or site.layout is not None:
        return None
    values = torch.from_numpy(covariance.probe[:64]).float()
    if site.channel_dim != 1:
        return values
    side = 8
    return values[torch.arange(side * side) % len(values)].T.reshape(1, -1, side, side)
