"""A layer's least-squares problem: the rows that it multiplies its weight with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsdistill.alignment.observing.samples import channels_first, flat, widen

_CONVOLUTIONS = {nn.Conv1d.forward: 1, nn.Conv2d.forward: 2, nn.Conv3d.forward: 3}


def fits(module: nn.Module) -> bool:
    """Whether `fan_in_rows` knows how the layer reads its input."""
    return type(module).forward is nn.Linear.forward or type(module).forward in _CONVOLUTIONS


def inputs(module: nn.Module) -> tuple[int, int]:
    """Number of groups of channels, and of entries of the input that each output of a group is made from."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return int(getattr(module, "groups", 1)), weight[0].numel()


def fan_in_rows(module: nn.Module, x: Tensor, places: Tensor) -> Tensor:
    """What the layer multiplies its weight with at some output positions.

    Args:
        module: a linear layer or a convolution.
        x: its input ``[N, ...]``.
        places: int ``[p]``, positions among the flattened output positions of a sample.

    Returns:
        ``[groups, N·p, F]`` with F the entries of ``weight[0]``, in its order.
    """
    if type(module).forward is nn.Linear.forward:
        block = flat(channels_first(x, -1))
        return widen(block[:, :, places]).transpose(1, 2).reshape(1, -1, block.shape[1])
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    dims = _CONVOLUTIONS[type(module).forward]
    x = _padded(module, x)
    sides = x.shape[2:]
    reach = [d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    outputs = [(side - r) // s + 1 for side, r, s in zip(sides, reach, module.stride, strict=True)]
    start = torch.zeros_like(places)
    taps = torch.zeros(1, dtype=places.dtype, device=places.device)
    rest = places
    strides = [int(torch.tensor(sides[dim + 1 :]).prod()) if dim + 1 < dims else 1 for dim in range(dims)]
    for dim in reversed(range(dims)):
        start = start + (rest % outputs[dim]) * module.stride[dim] * strides[dim]
        rest = rest // outputs[dim]
    for dim in range(dims):
        along = torch.arange(module.kernel_size[dim], device=places.device) * module.dilation[dim]
        taps = (taps[:, None] + along * strides[dim]).reshape(-1)
    index = (start[:, None] + taps).reshape(-1)
    samples, channels = x.shape[:2]
    groups = module.groups
    taken = widen(x.flatten(2)[:, :, index]).reshape(samples, groups, channels // groups, len(places), -1)
    return taken.permute(1, 0, 3, 2, 4).reshape(groups, samples * len(places), -1)


def _padded(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    if isinstance(module.padding, str) or mode != "constant":
        return F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
    both = [side for side in reversed(module.padding) for _ in range(2)]
    return F.pad(x, both) if any(both) else x


def output_rows(y: Tensor, channel_dim: int, places: Tensor) -> Tensor:
    """The layer's output at the same positions: ``[N·p, O]``."""
    block = flat(channels_first(y, channel_dim))
    return widen(block[:, :, places]).transpose(1, 2).reshape(-1, block.shape[1])


def channel_dim(module: nn.Module) -> int:
    """Dimension of input and output along which the channels lie."""
    return -1 if type(module).forward is nn.Linear.forward else 1
