"""The tolerance within which the outputs of a cut model and of its reference agree."""

from __future__ import annotations

import torch

STRICT = 2e-4
"""How far the outputs of a right cut may be from the reference, relative to the largest value."""

LENIENT = 2e-3
"""The same where only float32 can be had, with its rounding through a deep network."""


def difference(outputs: list[torch.Tensor], wanted: list[torch.Tensor], tolerance: float) -> str | None:
    """What differs between two lists of outputs.

    Args:
        outputs: of a cut model.
        wanted: of the reference, in the same order.
        tolerance: the largest difference allowed, relative to the largest value of each output.

    Returns:
        ``None`` where they agree.
    """
    if len(outputs) != len(wanted):
        return f"{len(outputs)} outputs instead of {len(wanted)}"
    for a, b in zip(outputs, wanted, strict=True):
        if a.shape != b.shape:
            return f"output of shape {tuple(a.shape)} instead of {tuple(b.shape)}"
        if not a.numel() or (not a.is_floating_point() and not a.is_complex()):
            continue
        a, b = a.double() if not a.is_complex() else a, b.double() if not b.is_complex() else b
        if not bool(torch.isfinite(b.abs()).all()):
            return "its output is not finite"
        scale = float(b.abs().max()) + 1e-12
        error = float((a - b).abs().max()) / scale
        if not error <= tolerance:
            return f"output differs by {error:.2g} of its largest value"
    return None
