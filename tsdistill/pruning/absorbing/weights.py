"""The weight of a reading layer as one matrix per group of channels, whatever kind of layer it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tsdistill.alignment.observing.sites import is_rowwise


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
        self._transposed = bool(getattr(module, "transposed", False)) or is_rowwise(module)
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
