"""Commands that several processes run together: ``torchrun --nproc-per-node 2 -m tsdistill analyze …``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STARTED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR")


@contextmanager
def joined(params: dict[str, Any]) -> Iterator[bool]:
    """Join the other processes of the job, when torchrun has started some; leave them at the end.

    Args:
        params: options; ``device`` ``cuda`` becomes this process's own GPU.

    Yields:
        whether this process writes and prints for all.
    """
    if any(name not in os.environ for name in _STARTED) or os.environ["WORLD_SIZE"] == "1":
        yield True
        return
    import torch
    import torch.distributed as dist

    on_gpu = str(params["device"]).startswith("cuda")
    if params["device"] == "cuda":
        params["device"] = f"cuda:{os.environ['LOCAL_RANK']}"
    if on_gpu and torch.cuda.is_available():
        torch.cuda.set_device(params["device"])
    dist.init_process_group("nccl" if on_gpu and torch.cuda.is_available() else "gloo")
    try:
        yield dist.get_rank() == 0
    finally:
        dist.destroy_process_group()
