"""Operators that work on neighbourhoods in space and leave channels alone: pooling, resizing, mirroring."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from tsdistill.runtime.nests import tensors


def _spatial(extent: int) -> Callable[[Any, tuple, dict, Any], None]:
    def rule(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
        fields = tracer.frozen_along(args[0], range(-extent, 0), "the extent of a pooling or resizing")
        for result in tensors(out):
            tracer.give(result, fields)

    return rule


_NAMES = {
    1: "max_pool1d avg_pool1d upsample_linear1d upsample_nearest1d reflection_pad1d",
    2: "max_pool2d max_pool2d_with_indices avg_pool2d adaptive_max_pool2d mkldnn_max_pool2d "
    "_adaptive_avg_pool2d adaptive_avg_pool2d mkldnn_adaptive_avg_pool2d upsample_nearest2d "
    "upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa "
    "_upsample_nearest_exact2d reflection_pad2d replication_pad2d grid_sampler_2d",
    3: "max_pool3d max_pool3d_with_indices avg_pool3d _adaptive_avg_pool3d adaptive_avg_pool3d "
    "upsample_nearest3d upsample_trilinear3d replication_pad3d reflection_pad3d",
}
"""Number of dimensions in space -> the operators that work on them."""

_BY_EXTENT = {extent: _spatial(extent) for extent in _NAMES}


def regions(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``roi_align(x, rois, ...)`` and ``roi_pool``: boxes of an image's features, with all their channels."""
    cause = "the extent of a pooling or resizing"
    fields = tracer.frozen_along(args[0], (0, 2, 3), cause)
    tracer.frozen_along(args[1], range(args[1].ndim), cause)
    for result in tensors(out):
        tracer.give(result, fields)


def unfold(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``im2col(x, kernel, ...)``: [b, C, h, w] to [b, C taps, places], every channel at each of its taps."""
    fields = tracer.frozen_along(args[0], range(2, args[0].ndim), "the extent of a neighbourhood")
    channels = None if fields[1] is None else np.repeat(fields[1], prod(args[1]))
    tracer.give(out, [fields[0], channels, None])


def fold(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``col2im(x, size, kernel, ...)``: [b, C taps, places] to [b, C, h, w], the sum over the taps."""
    fields, taps = tracer.labels(args[0]), prod(args[2])
    tracer.freeze(fields[2], "the extent of a neighbourhood")
    channels = fields[1]
    if channels is not None:
        channels, each = tracer.split(channels.reshape(-1, taps))
        tracer.freeze(each, "the taps of a neighbourhood")
    tracer.give(out, [fields[0], channels, *[None] * (out.ndim - 2)])


RULES = {name: _BY_EXTENT[extent] for extent, names in _NAMES.items() for name in names.split()}
RULES |= dict.fromkeys(("roi_align", "roi_pool"), regions) | {"im2col": unfold, "col2im": fold}
