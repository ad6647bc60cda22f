"""Information about a model of any origin."""

from __future__ import annotations

from torch import nn

from tsdistill.models.info import ModelInfo, attached


def info_of(model: nn.Module) -> ModelInfo:
    """The information attached to ``model``; else what a model of timm says itself; else an empty one."""
    info = attached(model)
    if info is not None:
        return info
    if type(model).__module__.startswith("timm.models."):
        from tsdistill.models.sources.timm_source import describe

        return describe(model)
    return ModelInfo()
