"""The widths that PyTorch's standard modules keep beside their tensors, set from the tensors themselves."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


def sync_widths(model: nn.Module) -> None:
    """Set ``in_features``, ``out_channels``, ``num_features``, ... in ``model`` and everything below it.

    Only what follows from tensor shapes is set; ``groups`` and ``num_groups`` must be right beforehand.
    """
    for module in model.modules():
        _sync(module)


def _sync(module: nn.Module) -> None:
    weight = getattr(module, "weight", None)
    if isinstance(module, _NormBase):
        known = weight if weight is not None else module.running_mean
        if known is not None:
            module.num_features = known.shape[0]
        return
    if not isinstance(weight, torch.Tensor):
        return
    shape = tuple(weight.shape)
    if isinstance(module, _ConvTransposeNd):
        module.in_channels, module.out_channels = shape[0], shape[1] * module.groups
    elif isinstance(module, _ConvNd):
        module.out_channels, module.in_channels = shape[0], shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = shape
    elif isinstance(module, nn.Bilinear):
        module.out_features, module.in1_features, module.in2_features = shape
    elif isinstance(module, nn.GroupNorm):
        module.num_channels = shape[0]
    elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        module.num_embeddings, module.embedding_dim = shape
    elif isinstance(module, nn.PReLU):
        module.num_parameters = shape[0]
    elif isinstance(getattr(module, "normalized_shape", None), tuple):
        module.__dict__["normalized_shape"] = shape
