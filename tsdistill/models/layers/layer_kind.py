"""The kinds of layers that multiply their input with a weight: one table."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tsdistill.models.layers.call_kinds import ProductCall
from tsdistill.torch_private import BatchNorm, ConvNd, ConvTransposeNd, NormBase


@dataclass(frozen=True)
class LayerKind:
    """What a kind of layer does with its input and its weight.

    Attributes:
        channel_dim: dimension of input and output along which the nodes lie.
        output_dim: dimension of the weight along which the layer's outputs lie; its inputs lie along the
            other of the first two.
        sides: number of dimensions over which the layer slides its weight.
        stacked: what follows ``weight`` in the names of the parameters that make up the weight, one below the
            other; empty where the weight is one parameter.
    """

    channel_dim: int
    output_dim: int
    sides: int = 0
    stacked: tuple[str, ...] = ()


LINEAR = LayerKind(-1, 0)
"""A linear layer: nodes in the last dimension, weight ``[out, in]``."""

ROWWISE = LayerKind(-1, 1)
"""A linear layer whose weight is ``[in, out]``."""

RECURRENT = LayerKind(-1, 0, stacked=("_ih", "_ih_l0", "_ih_l0_reverse"))
"""A recurrent layer: nodes in the last dimension, weights ``[gates * out, in]`` of its first layer, of both
directions."""

CONVOLUTIONS = {1: LayerKind(1, 0, 1), 2: LayerKind(1, 0, 2), 3: LayerKind(1, 0, 3)}
"""Convolutions by the number of dimensions: channels in dimension 1, weight ``[out, in / groups, ...]``."""

TRANSPOSED = {1: LayerKind(1, 1, 1), 2: LayerKind(1, 1, 2), 3: LayerKind(1, 1, 3)}
"""Transposed convolutions by the number of dimensions: weight ``[in, out / groups, ...]``."""

_KINDS: dict[type[nn.Module], LayerKind | dict[int, LayerKind]] = {
    nn.Linear: LINEAR,
    ConvTransposeNd: TRANSPOSED,
    ConvNd: CONVOLUTIONS,
    nn.RNNBase: RECURRENT,
    nn.RNNCellBase: RECURRENT,
    ProductCall: ROWWISE,
}
"""Class -> kind of its layers, or their kinds by the number of dimensions of the kernel. Subclasses are of
the kind of the nearest class that is listed."""

_KINDS_BY_NAME = {"Conv1D": ("nf", ROWWISE), "DeformConv2d": ("weight", CONVOLUTIONS[2])}
"""The same of transformers and torchvision, which need not be installed: name of a class -> an attribute that
its layers have, and their kind."""

_REGISTERED: set[type[nn.Module]] = set()
"""The classes of `_KINDS` that are not PyTorch's."""

_PLAIN = {
    layer.forward
    for layer in (
        *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
        *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, ProductCall),
    )
}
"""Forwards that multiply the input with ``weight``, add ``bias`` and do nothing else."""

_INPUT_WIDTHS = ("in_features", "in_channels", "input_size")
"""Attributes of layers that hold the number of input channels."""

_NORMS = (NormBase, nn.LayerNorm, nn.GroupNorm)
"""PyTorch's layers that normalise and then scale and shift each node."""


def register_layer_kind(layer: type[nn.Module], kind: LayerKind, *, plain: bool = False) -> None:
    """Say of which kind the layers of a class are, and those of its subclasses.

    Their weight is ``weight`` and their bias, if they have one, ``bias``; attributes ``in_features`` and
    ``out_features``, or ``in_channels`` and ``out_channels``, are set when nodes are removed. Layers that
    slide their weight have the attributes of PyTorch's convolutions.

    Args:
        layer: the class.
        kind: what its layers do.
        plain: whether ``layer.forward`` multiplies the input with the weight, adds the bias and does nothing
            else. Such layers are re-aligned; others are tried out before they compensate for removed nodes.
    """
    _KINDS[layer] = kind
    _REGISTERED.add(layer)
    if plain:
        _PLAIN.add(layer.forward)


def kind_of(module: nn.Module) -> LayerKind | None:
    """The kind of a layer, subclasses with a forward of their own included; ``None`` for other modules."""
    kind = next((_KINDS[each] for each in type(module).__mro__ if each in _KINDS), None)
    if isinstance(kind, dict):
        return kind.get(len(module.kernel_size))  # type: ignore[arg-type]
    named = _KINDS_BY_NAME.get(type(module).__name__)
    return kind or (named[1] if named is not None and hasattr(module, named[0]) else None)


def is_registered(module: nn.Module) -> bool:
    """Whether the kind of a layer is one that was registered."""
    return not _REGISTERED.isdisjoint(type(module).__mro__)


def is_plain(module: nn.Module) -> bool:
    """Whether the forward of a layer multiplies the input with the weight, adds the bias and does nothing
    else."""
    return type(module).forward in _PLAIN


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises its input, by its class."""
    return isinstance(module, _NORMS) or "RMSNorm" in type(module).__name__


def input_width(module: nn.Module) -> int | None:
    """Number of input channels of a layer, ``None`` for modules of no known kind."""
    kind = kind_of(module)
    if kind is None:
        return None
    for name in _INPUT_WIDTHS:
        if hasattr(module, name):
            width: int = getattr(module, name)
            return width
    weight = getattr(module, "weight", None)
    return weight.shape[1 - kind.output_dim] if isinstance(weight, Tensor) else None


def weight_blocks(module: nn.Module, weight: Tensor) -> Tensor:
    """The weight of a layer as ``[groups, outputs, inputs, taps]``, a view where that is possible.

    Args:
        module: a layer of a known kind.
        weight: a tensor of the shape of its weight.
    """
    kind, groups, shape = kind_of(module), groups_of(module), weight.shape
    assert kind is not None
    blocks = weight.reshape(groups, shape[0] // groups, shape[1], -1)
    return blocks.transpose(1, 2) if kind.output_dim else blocks


def from_blocks(module: nn.Module, blocks: Tensor, shape: torch.Size) -> Tensor:
    """The weight of a layer, ``shape``, from its blocks ``[groups, outputs, inputs, taps]``."""
    kind = kind_of(module)
    assert kind is not None
    return (blocks.transpose(1, 2) if kind.output_dim else blocks).reshape(shape)


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
