"""The example input of an export, at other batch sizes and with other values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tsdistill.runtime.modes import Inputs
from tsdistill.torch_private import pytree


@dataclass(frozen=True)
class Example:
    """Arguments of a forward.

    Attributes:
        args: positional arguments.
        kwargs: keyword arguments.
        batch: samples in it.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    batch: int

    @classmethod
    def of(cls, inputs: Inputs) -> Example:
        """An example on the CPU of a tensor, a tuple of arguments or a dict of keyword arguments.

        Its batch is the first dimension of the first tensor that has any.
        """
        inputs = pytree.tree_map_only(torch.Tensor, lambda t: t.detach().cpu(), inputs)
        keywords = isinstance(inputs, Mapping)
        args: tuple[Any, ...] = () if keywords else inputs if isinstance(inputs, tuple) else (inputs,)
        kwargs = dict(inputs) if keywords else {}
        sized = (t.shape[0] for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor) and t.dim())
        return cls(args, kwargs, next(sized, 1))

    def batched(self, argument: Any) -> bool:
        """Whether ``argument`` is a tensor whose first dimension is the batch."""
        return isinstance(argument, torch.Tensor) and argument.dim() > 0 and argument.shape[0] == self.batch

    @property
    def can_grow(self) -> bool:
        """Whether there is a tensor whose first dimension is the batch."""
        return any(self.batched(a) for a in (*self.args, *self.kwargs.values()))

    def resized(self, batch: int) -> Example:
        """The same with ``batch`` samples: the first ones, repeated when there are too few."""
        rows = torch.arange(batch) % self.batch
        return self._map(lambda a: a[rows] if self.batched(a) else a, batch)

    def drawn(self, generator: torch.Generator) -> Example:
        """Random values like those of the example.

        Floating tensors are Gaussian with the example's mean and deviation, within its range; whole numbers
        are drawn from those that occur in it.
        """
        return self._map(
            lambda a: pytree.tree_map_only(torch.Tensor, lambda t: _draw(t, generator), a), self.batch
        )

    def _map(self, change: Callable[[Any], Any], batch: int) -> Example:
        args = tuple(change(a) for a in self.args)
        return Example(args, {name: change(a) for name, a in self.kwargs.items()}, batch)


def _draw(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if not tensor.numel() or tensor.is_complex():
        return tensor
    if not tensor.is_floating_point():
        chosen = torch.randint(tensor.numel(), tensor.shape, generator=generator)
        return tensor.reshape(-1)[chosen]
    values = tensor.double()
    noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    drawn = values.mean() + values.std(correction=0) * noise
    return drawn.clamp(values.min(), values.max()).to(tensor.dtype)
