"""Streaming mean and covariance of the features of one site."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

_CHUNK = 32768
_PROBE = 256


def accumulator_device(device: torch.device) -> torch.device:
    """Where float64 sums live: ``device`` itself, or the CPU for devices without float64."""
    return torch.device("cpu") if device.type == "mps" else device


def product(left: Tensor, right: Tensor) -> Tensor:
    """``leftᵀ right`` in the inputs' precision, chunks of rows summed in float64."""
    device = accumulator_device(left.device)
    total = torch.zeros(left.shape[1], right.shape[1], dtype=torch.float64, device=device)
    for start in range(0, left.shape[0], _CHUNK):
        part = left[start : start + _CHUNK].T @ right[start : start + _CHUNK]
        total += part.to(device=device, dtype=torch.float64)
    return total


class RunningCovariance:
    """Moments of ``[samples, F]`` batches, shifted by the first batch's mean; memory F² whatever comes."""

    def __init__(self) -> None:
        self.rows = 0
        self._shift: Tensor | None = None
        self._sum: Tensor | None = None
        self._outer: Tensor | None = None
        self._probe: Tensor | None = None

    def update(self, samples: Tensor) -> bool:
        """Take in a batch; ``False`` when it holds NaN or infinity (nothing is taken in then)."""
        if samples.shape[0] == 0:
            return True
        if self._shift is None:
            self._shift = samples.mean(0, dtype=torch.float64 if samples.device.type != "mps" else None).to(
                samples.dtype
            )
            step = max(1, samples.shape[0] // _PROBE)
            self._probe = samples[::step][:_PROBE].clone()
            device = accumulator_device(samples.device)
            width = samples.shape[1]
            self._sum = torch.zeros(width, dtype=torch.float64, device=device)
            self._outer = torch.zeros(width, width, dtype=torch.float64, device=device)
        assert self._sum is not None
        assert self._outer is not None
        centred = samples - self._shift
        total = centred.to(device=self._sum.device).sum(0, dtype=torch.float64)
        if not bool(torch.isfinite(total).all()):
            return False
        self._sum += total
        self._outer += product(centred, centred)
        self.rows += samples.shape[0]
        return True

    def finish(self) -> Covariance:
        """The statistics of everything taken in; the running sums are given up."""
        assert self._shift is not None
        assert self._sum is not None
        assert self._outer is not None
        assert self._probe is not None
        offset = self._sum / self.rows
        matrix = self._outer.div_(self.rows).addr_(offset, offset, alpha=-1.0)
        mean = offset + self._shift.to(offset)
        self._outer = None
        return Covariance(
            self.rows, mean.cpu().numpy(), matrix.cpu().numpy(), self._probe.double().cpu().numpy()
        )


@dataclass(frozen=True, eq=False)
class Covariance:
    """What was seen at a site.

    Attributes:
        rows: number of samples (positions counted).
        mean: float64 ``[F]``.
        matrix: float64 ``[F, F]``, the centred covariance (divided by ``rows``).
        probe: float64 ``[at most 256, F]``: some samples as they were, to verify exact relations.
    """

    rows: int
    mean: np.ndarray
    matrix: np.ndarray
    probe: np.ndarray

    @cached_property
    def var(self) -> np.ndarray:
        """Variances ``[F]``; rounding below the resolution of the sums counts as zero."""
        diagonal = np.diag(self.matrix).copy()
        floor = 1e-12 * (self.mean**2 + np.square(self.probe).max(0, initial=0.0))
        diagonal[diagonal <= floor] = 0.0
        return diagonal

    @cached_property
    def std(self) -> np.ndarray:
        """Standard deviations ``[F]``."""
        return np.sqrt(self.var)
