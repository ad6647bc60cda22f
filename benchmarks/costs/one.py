"""One cell in a process of its own: ``python -m costs.one KEY`` prints its figures as JSON.

The toolkit is the one that ``PYTHONPATH`` names, so that two checkouts are measured by the same code.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import tsdistill as tsd

from .subjects import Subject, subject

BATCH = 32
"""Images a forward pass."""


def main() -> None:
    """Measure the cell of the command line."""
    key = json.loads(sys.argv[1])
    torch.set_num_threads(key.get("threads", 1))
    tsd.prune_result, tsd.analyze  # noqa: B018  # what is imported lazily is no part of the cost
    this = subject(key["network"], key["images"], key["seed"])
    before = _resident()
    unit = _forward_time(this.model, this.images)
    stages: dict[str, float] = {}
    figures, spent = _prune(this, key, _stage_clock(stages)) if key["budget"] else _analyze(this, key)
    unit = min(unit, _forward_time(this.model, this.images))
    figures |= {
        "forward passes": round(spent / unit, 1),
        "seconds": round(spent, 1),
        "memory, GB": round((_resident() - before) / 1e6, 2),
        "stages": {name: round(seconds / unit, 1) for name, seconds in stages.items()},
    }
    print(json.dumps(figures))


def _prune(this: Subject, key: dict[str, Any], progress: Callable[..., None]) -> tuple[dict[str, Any], float]:
    """What comes out, and the processor time that pruning takes."""
    start = time.process_time()
    result = tsd.prune_result(
        this.model,
        data=this.images,
        macs=key["budget"],
        seed=key["seed"],
        progress=progress,
        **key.get("options", {}),
    )
    spent = time.process_time() - start
    progress("")
    outputs, wanted = (_outputs(model, this.unseen) for model in (result.model, this.model))
    error = float((outputs - wanted).double().square().sum() / wanted.double().square().sum())
    agreement = float((outputs.argmax(1) == wanted.argmax(1)).double().mean())
    figures = {"error": error, "agreement, %": 100 * agreement, "rounds": result.rounds}
    if this.labels is not None:
        figures["accuracy, %"] = 100 * float((outputs.argmax(1) == this.labels).double().mean())
    return figures, spent


def _analyze(this: Subject, key: dict[str, Any]) -> tuple[dict[str, Any], float]:
    start = time.process_time()
    tsd.analyze(this.model, data=this.images, seed=key["seed"])
    return {}, time.process_time() - start


def _stage_clock(stages: dict[str, float]) -> Callable[..., None]:
    """A progress callback that adds up the processor time of each stage, rounds together."""
    current, since = "opening data", time.process_time()

    def tell(stage: str, *_: Any) -> None:
        nonlocal current, since
        now = time.process_time()
        stages[current] = stages.get(current, 0.0) + now - since
        current, since = stage.rpartition(": ")[2], now

    return tell


@torch.no_grad()
def _forward_time(model: nn.Module, x: Tensor) -> float:
    """Processor time of a forward pass over ``x``, the least of three."""
    times = []
    for _ in range(3):
        start = time.process_time()
        for part in x.split(BATCH):
            model(part)
        times.append(time.process_time() - start)
    return min(times)


@torch.no_grad()
def _outputs(model: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([model(part) for part in x.split(100)])


def _resident() -> int:
    """Peak resident memory so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
