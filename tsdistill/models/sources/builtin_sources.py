"""The built-in model sources: ``timm:``, ``torchvision:``, ``hf:`` and the user's own factories."""

from __future__ import annotations

from importlib import import_module

from tsdistill.models.sources import python_code
from tsdistill.models.sources.specs import Built, ModelSource
from tsdistill.plugins import hookimpl
from tsdistill.plugins.hookspecs import Register


def _lazy(source: str) -> ModelSource:
    """The function ``build`` of a module, which the first call imports: libraries take seconds."""

    def build(argument: str, *, weights: bool) -> Built:
        built: Built = import_module(f"tsdistill.models.sources.{source}").build(argument, weights=weights)
        return built

    return build


@hookimpl
def register_model_sources(register: Register) -> None:
    """Register timm, torchvision, transformers and ``python`` (own code, which needs no prefix)."""
    for name in ("timm", "torchvision", "hf"):
        register(name, _lazy(f"{name}_source"))
    register("python", python_code.build)
