"""The time of one forward pass, from which the time of all else is estimated."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tsdistill.runtime.forward import forward
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.progress import Progress, tell

FORWARD = "one forward pass"


def measure_pass(progress: Progress | None, model: nn.Module, example: Any) -> None:
    """Let a ``progress`` that makes forecasts see how long a forward pass of one sample takes.

    Args:
        progress: without a method ``expect`` nothing runs.
        model: it has run before, so that the pass has nothing to set up.
        example: one input (batch 1).
    """
    listener = getattr(progress, "expect", None)
    if listener is None:
        return
    listener({FORWARD: 1.0})
    tell(progress, FORWARD)
    with evaluation_mode(model), torch.no_grad():
        forward(model, example)
