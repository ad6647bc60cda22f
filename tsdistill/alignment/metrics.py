"""Built-in alignment metrics: how alike a student node and a teacher node are.

A metric is an object with a ``name``, ``wants = "moments"`` and ``from_moments(moments) -> Tensor [S, T]``
(larger is more alike). It is registered by name through the hook ``register_alignment_metrics``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from tsdistill.alignment.moments import Moments
from tsdistill.plugins import hookimpl


class MomentMetric(Protocol):
    """What a metric computed from streamed moments offers."""

    name: str
    wants: str

    def from_moments(self, moments: Moments) -> Tensor:
        """Similarities ``[S, T]`` of student with teacher nodes."""


class Correlation:
    """Pearson correlation of the activations; 0 where a node does not vary."""

    name = "correlation"
    wants = "moments"

    def from_moments(self, moments: Moments) -> Tensor:
        """Correlations ``[S, T]`` in [-1, 1]."""
        return _scaled(moments.cov(), moments.var_s(), moments.var_t())


class Cosine:
    """Cosine of the raw activations (mean included); 0 where a node is always 0."""

    name = "cosine"
    wants = "moments"

    def from_moments(self, moments: Moments) -> Tensor:
        """Cosines ``[S, T]`` in [-1, 1]."""
        mean_s, mean_t = moments.mean_s(), moments.mean_t()
        products = moments.cov() + torch.outer(mean_s, mean_t)
        return _scaled(products, moments.var_s() + mean_s**2, moments.var_t() + mean_t**2)


def _scaled(products: Tensor, squares_s: Tensor, squares_t: Tensor) -> Tensor:
    scale = torch.outer(squares_s.clamp_min(0).sqrt(), squares_t.clamp_min(0).sqrt())
    ratio = products / torch.where(scale > 0, scale, torch.ones_like(scale))
    return torch.where(scale > 0, ratio, torch.zeros_like(ratio)).clamp(-1.0, 1.0)


@hookimpl
def register_alignment_metrics(register: Callable[[str, MomentMetric], None]) -> None:
    """Register the built-in metrics."""
    for metric in (Correlation(), Cosine()):
        register(metric.name, metric)
