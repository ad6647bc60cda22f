"""The losses that come with the toolkit, registered as a plugin's are."""

from __future__ import annotations

from collections.abc import Callable

from tsdistill.distillation.losses.feature_losses import AttentionTransfer, Hints
from tsdistill.distillation.losses.loss_protocol import Loss
from tsdistill.distillation.losses.node_alignment import NodeAlignment
from tsdistill.distillation.losses.output_losses import (
    CrossEntropy,
    Decoupled,
    Logits,
    SoftTargets,
    SquaredError,
)
from tsdistill.plugins import hookimpl


@hookimpl
def register_losses(register: Callable[[str, Callable[..., Loss]], None]) -> None:
    """Register the eight."""
    register("soft-targets", SoftTargets)
    register("logits", Logits)
    register("mse", SquaredError)
    register("cross-entropy", CrossEntropy)
    register("dkd", Decoupled)
    register("node-alignment", NodeAlignment)
    register("hints", Hints)
    register("attention-transfer", AttentionTransfer)
