"""The built-in model sources: ``timm:``, ``torchvision:`` and the user's own factories."""

from __future__ import annotations

from tsdistill.models import own_code, timm_source, torchvision_source
from tsdistill.plugins import hookimpl
from tsdistill.plugins.hookspecs import Register


@hookimpl
def register_model_sources(register: Register) -> None:
    """Register timm, torchvision and ``python`` (own code, which needs no prefix)."""
    register("timm", timm_source.build)
    register("torchvision", torchvision_source.build)
    register("python", own_code.build)
