"""What stops a training: a loss that is no number, Ctrl-C, a scheduler that wants the machine back."""

from __future__ import annotations

import math
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn

_LOSSES_PER_CHECK = 20
"""Losses that are checked together on a GPU. Each check waits for the GPU; one in 20 batches costs little,
and a training stops at most 19 batches after its first loss that is not finite."""


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop, and its state is on disk."""


class StopRequest:
    """Whether SIGINT (Ctrl-C) or SIGTERM came inside the block; a second Ctrl-C is not waited for."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, _frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


class FiniteLossCheck:
    """Finds the first loss that is NaN or infinite: at once on the CPU, on a GPU without waiting for it."""

    def __init__(self) -> None:
        self._pending: list[tuple[int, Tensor]] = []

    def add(self, batch: int, loss: Tensor) -> int | None:
        """Take note of a loss (0-dim).

        Returns:
            the number of the first batch whose loss is no finite number, where one is known.
        """
        if loss.device.type == "cpu":
            return None if math.isfinite(float(loss)) else batch
        self._pending.append((batch, loss.detach()))
        return self.check() if len(self._pending) >= _LOSSES_PER_CHECK else None

    def check(self) -> int | None:
        """Look at all losses that were noted."""
        waiting, self._pending = self._pending, []
        if not waiting:
            return None
        sound = torch.isfinite(torch.stack([loss for _, loss in waiting])).tolist()
        return next((batch for (batch, _), good in zip(waiting, sound, strict=True) if not good), None)


def all_finite(model: nn.Module) -> bool:
    """Whether every floating weight and buffer is finite."""
    tensors = [*model.parameters(), *model.buffers()]
    sums = [tensor.detach().float().sum() for tensor in tensors if tensor.is_floating_point()]
    return not sums or bool(torch.isfinite(torch.stack([each.cpu() for each in sums])).all())
