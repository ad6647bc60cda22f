"""The weight of a reading layer as one matrix per group of channels, whatever kind of layer it is."""

from __future__ import annotations

from torch import nn

from tsdistill.models.layers.effective_weights import effective_weight
from tsdistill.models.layers.layer_kind import groups_of, kind_of


class ReadingWeight:
    """A layer's weight (`models.layers.effective_weights`) seen as blocks ``[outputs, inputs, taps]`` in
    float64; changes go back with ``write``.

    Attributes:
        blocks: one block per group of channels of a convolution (one block in all otherwise); block g reads
            the input channels ``g · inputs`` to ``(g + 1) · inputs - 1``.
    """

    def __init__(self, module: nn.Module) -> None:
        weight, kind = effective_weight(module), kind_of(module)
        assert weight is not None
        assert kind is not None
        self._weight, groups = weight, groups_of(module)
        wide = weight.read().double().cpu()
        self._transposed = kind.output_dim == 1
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
        self._weight.write(shaped.reshape(self._weight.shape))
