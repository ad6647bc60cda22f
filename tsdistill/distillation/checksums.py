"""Checksums of samples and models: whether two runs have read the same, and kept outputs are of an input."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.runtime.nests import count, mapped, tensors

_DIGITS = 16
"""Hexadecimal digits of a fingerprint: 64 bits, two of which meet by chance once in 2**64."""

_CHUNK = 2**22
"""Values of which the products are held at once, 32 MiB."""

_MIXERS = (-7046029254386353131, -4658895280553007687, -7723592293110705685)
"""Odd 64-bit multipliers with evenly spread bits, of the generator SplitMix64 (G. Steele et al., "Fast
splittable pseudorandom number generators", 2014)."""

_SIZED = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole-number types by their size in bytes."""


def fingerprint(model: nn.Module) -> str:
    """A short hash of a model's weights and buffers."""
    return _digest((name, each) for name, each in model.state_dict().items() if isinstance(each, Tensor))


def fingerprint_of_samples(batches: Iterable[tuple[Any, Any]]) -> str:
    """A short hash of the inputs and labels of batches."""
    return _digest(
        (part, each) for pair in batches for part, x in zip("xy", pair, strict=True) for each in tensors(x)
    )


def _digest(named: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in named:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:_DIGITS]


def checksums(x: Any) -> Tensor:
    """A number for each sample of a batch, int64 ``[samples]`` on the CPU, never 0; the same for the same
    values on every device.

    It is the sum of the bits of all values times weights that depend on their places, modulo 2**64. Tensors
    of other sizes than the batch count for every sample.

    Args:
        x: a tensor, or a nest of tensors that has samples along the first dimension; or a list of samples.
    """
    if isinstance(x, list):
        return torch.cat([checksums(mapped(sample, lambda each: each[None])) for sample in x])
    samples = count(x)
    total = torch.zeros(samples, dtype=torch.int64)
    for place, tensor in enumerate(tensors(x)):
        shared = tensor.ndim == 0 or len(tensor) != samples
        total += _sums(tensor[None] if shared else tensor, place)
    return torch.where(total == 0, 1, total)


def _sums(tensor: Tensor, place: int) -> Tensor:
    """The weighted sum of the bits of each row, int64 ``[rows]`` on the CPU."""
    rows = tensor.detach().contiguous().flatten(1) if tensor.ndim > 1 else tensor.detach()[:, None]
    rows = rows.contiguous().view(_SIZED.get(rows.element_size(), torch.uint8))
    weights = torch.arange(rows.shape[1], device=rows.device) + (place << 40) + 1
    for mixer in _MIXERS:
        weights = (weights ^ (weights >> 31)) * mixer
    weights = weights | 1
    size = max(1, _CHUNK // max(1, rows.shape[1]))
    return torch.cat([(part.long() * weights).sum(1) for part in rows.split(size)]).cpu()
