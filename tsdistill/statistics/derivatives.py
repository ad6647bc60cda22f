"""Derivatives of a model's output in several directions: random ones, or all that there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.runtime.forward import forward
from tsdistill.runtime.nests import count, tensors


def floating_outputs(returned: Any) -> tuple[list[Tensor], list[Tensor]]:
    """All floating tensors in what a model returned, and those of them that depend on something.

    Raises:
        TsdistillError: there is no floating output.
    """
    outputs = [y for y in tensors(returned) if y.is_floating_point()]
    if not outputs:
        raise TsdistillError("the model has no floating-point output; strength cannot be measured")
    return outputs, [y for y in outputs if y.requires_grad]


def random_direction(outputs: list[Tensor], seed: int) -> list[Tensor]:
    """r ~ N(0, I) for every sample: a backward pass from these gives rᵀ ∂f."""
    generator = torch.Generator().manual_seed(seed)
    return [_normal(y, generator) for y in outputs]


def projected(model: nn.Module, x: Any, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """The floating outputs of a forward pass that depend on something, and a random direction for them.

    Raises:
        TsdistillError: there is no floating output.
    """
    differentiable = floating_outputs(forward(model, x))[1]
    return differentiable, random_direction(differentiable, seed)


def outputs_per_sample(outputs: list[Tensor], x: Any) -> int | None:
    """How many figures the outputs have for each sample; ``None`` where samples are not their rows."""
    samples = count(x)
    if not outputs or not samples or any(y.ndim == 0 or len(y) != samples for y in outputs):
        return None
    return sum(y.numel() for y in outputs) // samples


def every_direction(outputs: list[Tensor], seed: int) -> Iterator[list[Tensor]]:
    """One direction for each figure that the outputs have for a sample, the same figure of every sample.

    The squares of the derivatives in all of them sum to the squared norm of the Jacobian's column exactly
    where no sample's output depends on another sample. Every sample has a random sign, so that the sum is
    right in the mean where one does.
    """
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (len(outputs[0]),), generator=generator) * 2.0 - 1
    for place, y in enumerate(outputs):
        for figure in range(y[0].numel()):
            direction = [
                torch.zeros(other.shape, dtype=other.dtype, device=other.device) for other in outputs
            ]
            direction[place].reshape(len(y), -1)[:, figure] = signs.to(y)
            yield direction


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(device=like.device, dtype=like.dtype)
