"""The widths that PyTorch's standard modules keep beside their tensors, set from the tensors themselves."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from tsdistill.models.attention import fit_attention
from tsdistill.models.layers.effective_weights import refresh
from tsdistill.models.layers.layer_kind import is_registered, weight_blocks

_OTHERS = ("Linear", "DeformConv2d")
"""How the classes of other libraries' layers end whose weight is ``[out, in, ...]``."""

_ALONG = (
    (_ConvTransposeNd, ("in_channels", "out_channels")),
    (_ConvNd, ("out_channels", "in_channels")),
    (nn.Linear, ("out_features", "in_features")),
    (nn.Bilinear, ("out_features", "in1_features", "in2_features")),
    (nn.GroupNorm, ("num_channels",)),
    ((nn.Embedding, nn.EmbeddingBag), ("num_embeddings", "embedding_dim")),
    (nn.PReLU, ("num_parameters",)),
)
"""Kinds of modules, and the attributes that hold the first sides of their weight."""


def sync_widths(model: nn.Module) -> None:
    """Set ``in_features``, ``out_channels``, ``num_features``, ... in ``model`` and everything below it.

    Only what follows from tensor shapes is set; ``groups`` and ``num_groups`` must be right beforehand.
    Weights that hooks compute from other parameters (weight norm, masks) are computed anew first.
    """
    refresh(model)
    for module in reversed(list(model.modules())):
        if isinstance(module, nn.MultiheadAttention):
            fit_attention(module)
        elif is_registered(module):
            _sync_registered(module)
        else:
            sync_module(module)


def _sync_registered(module: nn.Module) -> None:
    weight = getattr(module, "weight", None)
    if isinstance(weight, torch.Tensor):
        groups, outputs, inputs, _ = weight_blocks(module, weight).shape
        _sync_other(module, groups * outputs, groups * inputs)


def sync_module(module: nn.Module) -> None:
    """`sync_widths` for one module that is no ``nn.MultiheadAttention``; those in it come first."""
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Transformer):
        module.d_model = next(
            (m.embed_dim for m in module.modules() if isinstance(m, nn.MultiheadAttention)), 0
        )
        return
    if isinstance(module, nn.TransformerEncoder):
        module.use_nested_tensor = module.use_nested_tensor and all(map(_takes_nested, module.layers))
        return
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        _sync_recurrent(module)
        return
    if isinstance(module, _NormBase):
        known = weight if weight is not None else module.running_mean
        if known is not None:
            module.num_features = known.shape[0]
        return
    if isinstance(weight, torch.Tensor):
        _sync_weighted(module, tuple(weight.shape))


def _sync_weighted(module: nn.Module, shape: tuple[int, ...]) -> None:
    names = next((names for kind, names in _ALONG if isinstance(module, kind)), ())
    for dim, name in enumerate(names):
        setattr(module, name, shape[dim] * (module.groups if dim and isinstance(module, _ConvNd) else 1))
    if names:
        return
    if isinstance(getattr(module, "normalized_shape", None), tuple):
        module.__dict__["normalized_shape"] = shape
    elif type(module).__name__.endswith(_OTHERS) and len(shape) > 1:
        _sync_other(module, shape[0], shape[1] * int(getattr(module, "groups", 1)))


def _sync_other(module: nn.Module, outputs: int, inputs: int) -> None:
    for name in ("features", "channels"):
        for place, width in ((f"out_{name}", outputs), (f"in_{name}", inputs)):
            if type(module.__dict__.get(place)) is int:
                module.__dict__[place] = width


def _takes_nested(layer: nn.Module) -> bool:
    """Whether PyTorch's fused path runs an encoder layer: it alone takes the nested tensors that
    ``nn.TransformerEncoder`` makes of a padding mask."""
    attention = getattr(layer, "self_attn", None)
    if not isinstance(attention, nn.MultiheadAttention) or type(attention) is not nn.MultiheadAttention:
        return False
    return attention._qkv_same_embed_dim and attention.num_heads % 2 == 0


def _sync_recurrent(module: nn.RNNBase | nn.RNNCellBase) -> None:
    if isinstance(module, nn.RNNCellBase):
        (_, module.input_size), (_, module.hidden_size) = _shape(module.weight_ih), _shape(module.weight_hh)
        return
    gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
    rows, module.input_size = _shape(module.weight_ih_l0)
    module.hidden_size = rows // gates
    if module.proj_size:
        module.proj_size, _ = _shape(module.weight_hr_l0)
    module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]


def _shape(weight: object) -> tuple[int, int]:
    assert isinstance(weight, torch.Tensor)
    return weight.shape[0], weight.shape[1]
