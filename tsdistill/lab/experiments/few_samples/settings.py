"""What the experiment on few samples can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tsdistill.errors import TsdistillError
from tsdistill.lab.settings import Settings, option, positive

MADE = 3
"""Samples that augmentation makes of one."""


@dataclass(frozen=True)
class Augmentation(Settings):
    """What is swept, and the training."""

    counts: tuple[int, ...] = option(
        (30, 60, 120, 270, 510, 1110), "training samples N in all, augmented ones counted; multiples of 3"
    )
    over: tuple[int, ...] = option((1, 2, 5, 10), "over-realisation: student nodes for each teacher node")
    seeds: int = option(8, "teachers and students drawn for each")
    inputs: int = option(100, "dimension d of the Gaussian input")
    nodes: int = option(5, "nodes m of the teacher")
    outputs: int = option(50, "dimension c of the output")
    decay: float = option(1.0, "p: fan-out norms fall as 1/j^p")
    steps: int = option(20_000, "steps of SGD, 100,000 in the paper")
    batch: int = option(16, "samples a step")
    rate: float = option(0.01, "learning rate; a tenth of it for the last three tenths of the steps")
    start: float = option(0.1, "norm of fan-in and fan-out weights of a student node at its start")
    sides: float = option(3.0, "teacher-aware: how far from the boundary, in deviations of its input")
    spread: float = option(0.3, "teacher-agnostic: how far along each random direction, as a part of ‖x‖")
    target: float = option(0.05, "the loss whose N is looked for, as a part of the loss of giving 0")

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(
            self, "counts", "over", "seeds", "inputs", "nodes", "outputs", "steps", "batch", "rate", "start",
            "sides", "spread", "target",
        )  # fmt: skip
        if not math.isfinite(self.decay) or self.decay < 0:
            raise TsdistillError(f"--decay {self.decay:g}: give numbers 0 or more")
        for count in self.counts:
            if count % MADE:
                raise TsdistillError(
                    f"--counts {count}: augmentation makes {MADE} samples of one; give multiples"
                )

    @property
    def strategies(self) -> dict[str, str]:
        """Name -> what `tsdistill.augmentation.opened` takes."""
        return {
            "none": "none",
            "agnostic": f"teacher-agnostic:copies=yes,scale={self.spread}",
            "aware": f"teacher-aware:copies=yes,share=1,scale={self.sides}",
        }
