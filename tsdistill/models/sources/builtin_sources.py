"""The built-in model sources: ``timm:``, ``torchvision:``, ``hf:`` and the user's own factories."""

from __future__ import annotations

from tsdistill.models.sources import python_code
from tsdistill.models.sources.specs import Built
from tsdistill.plugins import hookimpl
from tsdistill.plugins.hookspecs import Register


def timm(argument: str, *, weights: bool) -> Built:
    """``timm_source.build``; timm, which takes seconds to import, comes in with the first call."""
    from tsdistill.models.sources import timm_source

    return timm_source.build(argument, weights=weights)


def torchvision(argument: str, *, weights: bool) -> Built:
    """``torchvision_source.build``, with torchvision imported by the first call."""
    from tsdistill.models.sources import torchvision_source

    return torchvision_source.build(argument, weights=weights)


def hf(argument: str, *, weights: bool) -> Built:
    """``hf_source.build``; transformers, an optional extra, is imported by the first call."""
    from tsdistill.models.sources import hf_source

    return hf_source.build(argument, weights=weights)


@hookimpl
def register_model_sources(register: Register) -> None:
    """Register timm, torchvision, transformers and ``python`` (own code, which needs no prefix)."""
    register("timm", timm)
    register("torchvision", torchvision)
    register("hf", hf)
    register("python", python_code.build)
