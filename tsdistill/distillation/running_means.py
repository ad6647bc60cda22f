"""The figures of one epoch as they add up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator


class RunningMeans:
    """Sums over the batches of an epoch that this process has seen; they survive a resumed run.

    Nothing waits for a GPU: losses add up where they are.
    """

    def __init__(self) -> None:
        self._total: Tensor | float = 0.0
        self._parts: dict[str, Tensor | float] = {}
        self._weight = 0.0
        self._samples = 0
        self._seconds = 0.0
        self._skipped = 0
        self._complaint = ""
        self._since: float | None = None
        self._recent = (0, 0.0)

    def start_clock(self) -> None:
        """The clock runs from here."""
        self._since = time.monotonic()
        self._recent = (self._samples, self._seconds)

    def stop_clock(self) -> None:
        """The clock stands still."""
        if self._since is not None:
            self._seconds += time.monotonic() - self._since
            self._since = None

    def add(
        self, loss: Tensor, samples: int, weight: float, parts: Mapping[str, Tensor] | None = None
    ) -> None:
        """A batch of ``samples`` whose mean loss is ``loss`` and counts as ``weight``.

        ``parts`` has the losses that make it up, by name and unweighted.
        """
        for name, value in (parts or {}).items():
            self._parts[name] = self._parts.get(name, 0.0) + value.detach().double() * weight
        self._total = self._total + loss.detach().double() * weight
        self._weight += weight
        self._samples += samples

    def skip(self, samples: int, complaint: str) -> None:
        """So many samples could not be read."""
        self._skipped += samples
        self._complaint = self._complaint or complaint

    @property
    def loss(self) -> float | None:
        """The mean so far (waits for a GPU)."""
        return float(self._total) / self._weight if self._weight else None

    @property
    def rate(self) -> float:
        """Samples a second of this process since the clock last began to run."""
        if self._since is None:
            return 0.0
        passed = time.monotonic() - self._since
        return (self._samples - self._recent[0]) / passed if passed > 0 else 0.0

    def line(self, accelerator: Accelerator) -> dict[str, Any]:
        """``loss``, ``loss/NAME`` of each loss, ``samples``, ``seconds``, ``rate`` and ``skipped`` over all
        processes."""
        sums = torch.tensor(
            [
                float(self._total),
                self._weight,
                float(self._samples),
                float(self._skipped),
                *(float(value) for value in self._parts.values()),
            ],
            dtype=torch.float64,
        )
        if accelerator.num_processes > 1:
            kind = torch.float32 if accelerator.device.type == "mps" else torch.float64
            sums = accelerator.reduce(sums.to(accelerator.device, kind), "sum").cpu().double()
        total, weight, samples, skipped, *parts = sums.tolist()
        line: dict[str, Any] = {
            "loss": total / weight if weight else None,
            **{
                f"loss/{name}": part / weight for name, part in zip(self._parts, parts, strict=True) if weight
            },
            "samples": int(samples),
            "seconds": round(self._seconds, 3),
            "rate": round(samples / self._seconds, 1) if self._seconds else 0.0,
            "skipped": int(skipped),
        }
        if self._complaint:
            line["first_skipped"] = self._complaint
        return line

    def state(self) -> dict[str, Any]:
        """The sums as plain data."""
        return {
            "total": float(self._total),
            "parts": {name: float(value) for name, value in self._parts.items()},
            "weight": self._weight,
            "samples": self._samples,
            "seconds": self._seconds,
            "skipped": self._skipped,
            "complaint": self._complaint,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self._total, self._weight = float(state["total"]), float(state["weight"])
        self._parts = {name: float(value) for name, value in state["parts"].items()}
        self._samples, self._seconds = int(state["samples"]), float(state["seconds"])
        self._skipped, self._complaint = int(state["skipped"]), str(state["complaint"])
