"""The kinds of layers that multiply their input with a weight: one table."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from tsdistill.models.layers.call_kinds import ProductCall
from tsdistill.torch_private import BatchNorm, ConvNd, ConvTransposeNd


@dataclass(frozen=True)
class LayerKind:
    """What a kind of layer does with its input and its weight.

    Attributes:
        channel_dim: dimension of input and output along which the nodes lie.
        output_dim: dimension of the weight along which the layer's outputs lie; its inputs lie along the
            other of the first two.
        sides: number of dimensions over which the layer slides its weight.
    """

    channel_dim: int
    output_dim: int
    sides: int = 0


LINEAR = LayerKind(-1, 0)
"""A linear layer: nodes in the last dimension, weight ``[out, in]``."""

ROWWISE = LayerKind(-1, 1)
"""A linear layer whose weight is ``[in, out]``."""

RECURRENT = LayerKind(-1, 0)
"""A recurrent layer: nodes in the last dimension, weights ``[gates * out, in]``."""

CONVOLUTIONS = {1: LayerKind(1, 0, 1), 2: LayerKind(1, 0, 2), 3: LayerKind(1, 0, 3)}
"""Convolutions by the number of dimensions: channels in dimension 1, weight ``[out, in / groups, ...]``."""

TRANSPOSED = {1: LayerKind(1, 1, 1), 2: LayerKind(1, 1, 2), 3: LayerKind(1, 1, 3)}
"""Transposed convolutions by the number of dimensions: weight ``[in, out / groups, ...]``."""

_PLAIN = frozenset(
    (
        nn.Linear.forward,
        nn.Conv1d.forward,
        nn.Conv2d.forward,
        nn.Conv3d.forward,
        nn.ConvTranspose1d.forward,
        nn.ConvTranspose2d.forward,
        nn.ConvTranspose3d.forward,
        ProductCall.forward,
    )
)


def kind_of(module: nn.Module) -> LayerKind | None:
    """The kind of a layer, subclasses with a forward of their own included; ``None`` for other modules."""
    if isinstance(module, nn.Linear):
        return LINEAR
    if isinstance(module, ConvTransposeNd):
        return TRANSPOSED.get(len(module.kernel_size))
    if isinstance(module, ConvNd):
        return CONVOLUTIONS.get(len(module.kernel_size))
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return RECURRENT
    if is_rowwise(module):
        return ROWWISE
    if type(module).__name__ == "DeformConv2d" and hasattr(module, "weight"):
        return CONVOLUTIONS[2]
    return None


def is_rowwise(module: nn.Module) -> bool:
    """Whether this is a linear layer whose weight is ``[in, out]``: a product with a parameter, or
    transformers' ``Conv1D``."""
    return isinstance(module, ProductCall) or (type(module).__name__ == "Conv1D" and hasattr(module, "nf"))


def is_plain(module: nn.Module) -> bool:
    """Whether the forward of a layer is PyTorch's own, which multiplies the input with the weight and does
    nothing else."""
    return type(module).forward in _PLAIN


def input_width(module: nn.Module) -> int | None:
    """Number of input channels of a layer, ``None`` for modules of no known kind."""
    kind = kind_of(module)
    if kind is None:
        return None
    if isinstance(module, nn.Linear | ConvNd):
        return module.in_features if isinstance(module, nn.Linear) else module.in_channels
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return module.input_size
    weight = getattr(module, "weight", None)
    return weight.shape[1 - kind.output_dim] if isinstance(weight, Tensor) else None


def groups_of(module: nn.Module) -> int:
    """Number of groups of channels of a convolution, each of which is read by weights of its own; 1 for
    other layers."""
    return int(getattr(module, "groups", 1))


def batch_norms(model: nn.Module) -> dict[str, BatchNorm]:
    """The batch norms of a model that keep running statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, BatchNorm) and module.running_mean is not None
    }
