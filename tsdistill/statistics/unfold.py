"""A layer's least-squares problem: the rows that it multiplies its weight with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsdistill.models.layers.effective_weights import effective_weight
from tsdistill.models.layers.layer_kind import groups_of, is_plain, kind_of
from tsdistill.statistics.sample_blocks import channels_first, flat, widen


def has_known_rows(module: nn.Module) -> bool:
    """Whether `fan_in_rows` knows how the layer reads its input, and its weight can be read."""
    return is_plain(module) and effective_weight(module) is not None


def inputs_per_output(module: nn.Module) -> tuple[int, int]:
    """Number of groups of channels, and of entries of the input that each output of a group is made from."""
    kind, weight = kind_of(module), effective_weight(module)
    assert kind is not None
    assert weight is not None
    groups, shape = groups_of(module), weight.shape
    own = shape[0] // groups if kind.output_dim else shape[1]
    return groups, own * shape[2:].numel()


def output_count(module: nn.Module) -> int:
    """Number of a layer's output channels."""
    kind, weight = kind_of(module), effective_weight(module)
    assert kind is not None
    assert weight is not None
    return weight.shape[kind.output_dim] * (groups_of(module) if kind.output_dim else 1)


def has_rows(module: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether `fan_in_rows` of ``x`` has the rows of the output ``y`` (a transposed convolution can be asked
    for another size than it has by itself)."""
    kind = kind_of(module)
    if kind is None or not kind.sides or not kind.output_dim:
        return True
    return tuple(y.shape[2:]) == tuple(_spread_sides(module, x))


def fan_in_rows(module: nn.Module, x: Tensor, places: Tensor) -> Tensor:
    """What the layer multiplies its weight with at some output positions.

    Args:
        module: a linear layer or a convolution (transposed ones, too).
        x: its input ``[N, ...]``.
        places: int ``[p]``, positions among the flattened output positions of a sample.

    Returns:
        ``[groups, N·p, F]`` with F the entries of the weight that make one output: its inputs and, of each,
        the taps of the kernel.
    """
    kind = kind_of(module)
    assert kind is not None
    if not kind.sides:
        block = flat(channels_first(x, kind.channel_dim))
        return widen(block[:, :, places]).transpose(1, 2).reshape(1, -1, block.shape[1])
    met: Tensor | None
    if kind.output_dim:
        index, met = _spread_taps(module, x, places)
    else:
        x, pads = _padded(module, x)
        index, met = _taps(module, x.shape[2:], pads, places)
    samples, channels = x.shape[:2]
    groups = groups_of(module)
    taken = widen(x.flatten(2).gather(2, index.reshape(1, 1, -1).expand(samples, channels, -1)))
    if met is not None:
        taken = taken * met.reshape(-1)
    taken = taken.reshape(samples, groups, channels // groups, len(places), -1)
    return taken.permute(1, 0, 3, 2, 4).reshape(groups, samples * len(places), -1)


def _taps(
    module: Any, sides: Sequence[int], pads: Sequence[tuple[int, int]], places: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Flattened position of the input under each tap of the kernel at each place, ``[p, taps]``; and
    which of them are no padding, where there is any."""
    index = torch.zeros(len(places), 1, dtype=places.dtype, device=places.device)
    real = torch.ones_like(index, dtype=torch.bool)
    reach = [d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    outputs = [
        (side + sum(pad) - r) // s + 1
        for side, pad, r, s in zip(sides, pads, reach, module.stride, strict=True)
    ]
    at = _coordinates(places, outputs)
    for dim, side in enumerate(sides):
        along = torch.arange(module.kernel_size[dim], device=places.device) * module.dilation[dim]
        met = at[dim][:, None] * module.stride[dim] + along - pads[dim][0]
        index = (index[:, :, None] * side + met.clamp(0, side - 1)[:, None, :]).flatten(1)
        real = (real[:, :, None] & ((met >= 0) & (met < side))[:, None, :]).flatten(1)
    return index, real if any(map(any, pads)) else None


def _spread_taps(module: Any, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The same of a transposed convolution, and which taps have an input at all (the others fall between
    its entries, or outside), both ``[p, taps]``."""
    sides = x.shape[2:]
    at = _coordinates(places, _spread_sides(module, x))
    index = torch.zeros(len(places), 1, dtype=places.dtype, device=places.device)
    met = torch.ones_like(index, dtype=torch.bool)
    for dim, side in enumerate(sides):
        along = torch.arange(module.kernel_size[dim], device=places.device) * module.dilation[dim]
        from_ = at[dim][:, None] + int(module.padding[dim]) - along
        source = from_.div(module.stride[dim], rounding_mode="floor")
        real = (from_ % module.stride[dim] == 0) & (source >= 0) & (source < side)
        index = (index[:, :, None] * side + source.clamp(0, side - 1)[:, None, :]).flatten(1)
        met = (met[:, :, None] & real[:, None, :]).flatten(1)
    return index, met


def _spread_sides(module: Any, x: Tensor) -> list[int]:
    """Sides of what a transposed convolution makes of ``x``."""
    each = zip(
        x.shape[2:],
        module.stride,
        module.padding,
        module.dilation,
        module.kernel_size,
        module.output_padding,
        strict=True,
    )
    return [
        (side - 1) * stride - 2 * int(pad) + dilation * (kernel - 1) + more + 1
        for side, stride, pad, dilation, kernel, more in each
    ]


def _coordinates(places: Tensor, sides: Sequence[int]) -> list[Tensor]:
    """Flattened positions as one coordinate a dimension."""
    coordinates: list[Tensor] = []
    for side in reversed(sides):
        coordinates.append(places % side)
        places = places // side
    return coordinates[::-1]


def _padded(module: Any, x: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
    """The input, padded where the padding is not zeros, and how many zeros lie before and behind it."""
    if module.padding == "same":
        reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        ends = [(side // 2, side - side // 2) for side in reach]
    elif module.padding == "valid":
        ends = [(0, 0)] * len(module.kernel_size)
    else:
        ends = [(int(side), int(side)) for side in module.padding]
    if module.padding_mode == "zeros":
        return x, ends
    sides = [side for end in reversed(ends) for side in end]
    return F.pad(x, sides, mode=module.padding_mode), [(0, 0)] * len(ends)


def output_rows(y: Tensor, channel_dim: int, places: Tensor) -> Tensor:
    """The layer's output at the same positions: ``[N·p, O]``."""
    block = flat(channels_first(y, channel_dim))
    return widen(block[:, :, places]).transpose(1, 2).reshape(-1, block.shape[1])


def channel_dim(module: nn.Module) -> int:
    """Dimension of input and output along which the channels lie."""
    kind = kind_of(module)
    assert kind is not None
    return kind.channel_dim
