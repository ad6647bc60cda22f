"""The weight of a reading layer as one matrix per group of channels, whatever kind of layer it is."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tsdistill.tracing.graph import Reader

_LINEAR = (nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward)


class ReadingWeight:
    """``layer.weight`` seen as blocks ``[outputs, inputs, taps]`` in float64; changes go back with ``write``.

    Attributes:
        blocks: one block per group of channels of a convolution (one block in all otherwise); block g reads
            the input channels ``g · inputs`` to ``(g + 1) · inputs - 1``.
    """

    def __init__(self, module: nn.Module) -> None:
        self._weight: Tensor = module.weight  # type: ignore[assignment]
        groups = int(getattr(module, "groups", 1))
        wide = self._weight.detach().double().cpu()
        self._transposed = bool(getattr(module, "transposed", False))
        shape = wide.shape
        if self._transposed:
            shaped = wide.reshape(groups, shape[0] // groups, shape[1], -1).transpose(1, 2)
        else:
            shaped = wide.reshape(groups, shape[0] // groups, shape[1], -1)
        self.blocks = shaped.clone()

    @property
    def outputs(self) -> int:
        """Number of output channels over all blocks."""
        return self.blocks.shape[0] * self.blocks.shape[1]

    def write(self) -> None:
        """Put the blocks back into the layer."""
        shaped = self.blocks.transpose(1, 2) if self._transposed else self.blocks
        with torch.no_grad():
            self._weight.copy_(shaped.reshape(self._weight.shape))


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
