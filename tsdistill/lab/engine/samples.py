"""Where the batches of a training come from: fresh Gaussian samples, or finite sets."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from tsdistill.lab.engine.drawing import generator_of

SAMPLES = 3


class Samples(Protocol):
    """Gives inputs for the steps of a training, many steps at once.

    Attributes:
        shared: whether all networks get the same samples.
    """

    shared: bool

    def rows(self, count: int) -> Tensor:
        """The next ``count`` samples: ``[count, d]`` if shared, else ``[S, count, d]``."""


class Fresh:
    """x ~ N(0, σ² I), never the same sample twice.

    Args:
        seed: decides what is drawn.
        inputs: d.
        spread: σ.
        networks: ``None``: the same samples for all networks of a stack, which costs one draw instead of S
            and makes the lowest layer one product of matrices. Each network still has a start, and as a rule
            a teacher, of its own: their results are coupled by common samples only. A number S: samples of
            their own for S networks.
        dtype: what the samples are given in; they are drawn in float32 whatever it is.
        device: where they are given.
    """

    def __init__(
        self,
        seed: int,
        inputs: int,
        *,
        spread: float = 1.0,
        networks: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shared = networks is None
        self._lead = () if networks is None else (networks,)
        self._inputs, self._spread, self._dtype, self._device = inputs, spread, dtype, device
        self._generator = generator_of(SAMPLES, seed)

    def rows(self, count: int) -> Tensor:
        """The next ``count`` samples: ``[count, d]`` if shared, else ``[S, count, d]``."""
        drawn = torch.randn((*self._lead, count, self._inputs), generator=self._generator)
        if self._spread != 1:
            drawn *= self._spread
        return drawn.to(dtype=self._dtype, device=self._device)


class Finite:
    """Samples drawn with replacement from finite sets.

    Args:
        x: ``[N, d]``, one set and one order for all networks, or ``[S, N, d]``, each network its own.
        seed: decides the order.
    """

    def __init__(self, x: Tensor, seed: int) -> None:
        self.shared = x.dim() == 2
        self._x = x
        self._generator = generator_of(SAMPLES, seed)

    def rows(self, count: int) -> Tensor:
        """The next ``count`` samples: ``[count, d]`` if shared, else ``[S, count, d]``."""
        sets, size = self._x.shape[:-2], self._x.shape[-2]
        drawn = torch.randint(size, (*sets, count), generator=self._generator).to(self._x.device)
        if self.shared:
            return self._x[drawn]
        return self._x[torch.arange(sets[0], device=self._x.device)[:, None], drawn]
