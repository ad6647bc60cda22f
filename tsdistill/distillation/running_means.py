"""The figures of one epoch as they add up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(eq=False)
class RunningMeans:
    """Sums over the batches of an epoch that this process has seen; they survive a resumed run.

    Nothing waits for a GPU: losses add up where they are.

    Attributes:
        total: sum of the losses, each times its weight.
        parts: the same of the losses that make it up, by name.
        weight: sum of the weights.
        samples: how many were seen.
        seconds: how long the clock has run.
        skipped: samples that could not be read.
        complaint: what was wrong with the first of them.
    """

    total: Tensor | float = 0.0
    parts: dict[str, Tensor | float] = field(default_factory=dict)
    weight: float = 0.0
    samples: int = 0
    seconds: float = 0.0
    skipped: int = 0
    complaint: str = ""

    def __post_init__(self) -> None:
        self._since: float | None = None
        self._recent = (self.samples, self.seconds)

    def start_clock(self) -> None:
        """The clock runs from here."""
        self._since = time.monotonic()
        self._recent = (self.samples, self.seconds)

    def stop_clock(self) -> None:
        """The clock stands still."""
        if self._since is not None:
            self.seconds += time.monotonic() - self._since
            self._since = None

    def add(
        self, loss: Tensor, samples: int, weight: float, parts: Mapping[str, Tensor] | None = None
    ) -> None:
        """Add a batch.

        Args:
            loss: its mean loss, 0-dim.
            samples: how many it has.
            weight: of the batch in the mean.
            parts: the losses that make up ``loss``, by name and unweighted, 0-dim.
        """
        for name, value in (parts or {}).items():
            self.parts[name] = self.parts.get(name, 0.0) + value.detach().double() * weight
        self.total = self.total + loss.detach().double() * weight
        self.weight += weight
        self.samples += samples

    def skip(self, samples: int, complaint: str) -> None:
        """So many samples could not be read."""
        self.skipped += samples
        self.complaint = self.complaint or complaint

    @property
    def loss(self) -> float | None:
        """The mean so far (waits for a GPU)."""
        return float(self.total) / self.weight if self.weight else None

    @property
    def rate(self) -> float:
        """Samples a second of this process since the clock last began to run."""
        if self._since is None:
            return 0.0
        passed = time.monotonic() - self._since
        return (self.samples - self._recent[0]) / passed if passed > 0 else 0.0

    def line(self, accelerator: Accelerator) -> dict[str, Any]:
        """``loss``, ``loss/NAME`` of each loss, ``samples``, ``seconds``, ``rate`` and ``skipped`` over all
        processes."""
        sums = torch.tensor(
            [
                float(self.total),
                self.weight,
                float(self.samples),
                float(self.skipped),
                *(float(value) for value in self.parts.values()),
            ],
            dtype=torch.float64,
        )
        if accelerator.num_processes > 1:
            kind = torch.float32 if accelerator.device.type == "mps" else torch.float64
            sums = accelerator.reduce(sums.to(accelerator.device, kind), "sum").cpu().double()
        total, weight, samples, skipped, *parts = sums.tolist()
        line: dict[str, Any] = {
            "loss": total / weight if weight else None,
            **{f"loss/{name}": part / weight for name, part in zip(self.parts, parts, strict=True) if weight},
            "samples": int(samples),
            "seconds": round(self.seconds, 3),
            "rate": round(samples / self.seconds, 1) if self.seconds else 0.0,
            "skipped": int(skipped),
        }
        if self.complaint:
            line["first_skipped"] = self.complaint
        return line

    def state(self) -> dict[str, Any]:
        """The sums as plain data, from which `RunningMeans` is made again."""
        sums = {each.name: getattr(self, each.name) for each in fields(self)}
        parts = {name: float(value) for name, value in self.parts.items()}
        return {**sums, "total": float(self.total), "parts": parts}
