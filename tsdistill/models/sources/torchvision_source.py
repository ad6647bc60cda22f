"""Models of torchvision: ``torchvision:NAME[,key=value...]``."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torchvision
from torch import nn
from torchvision import models
from torchvision.models import regnet

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.info import InputSpec
from tsdistill.models.sources.offline import quiet_downloads
from tsdistill.models.sources.specs import Built, OptionValue, join, parse, refuse

_REFUSED = ("weights_backbone", "progress", "backbone")
_CLIP_FRAMES = 16
"""Frames of a video where the weights do not say how many they need: the length that most of torchvision's
video models were trained on.
"""

_DETECTION_SIDE = 320
"""Side of a detector's image in pixels: that of torchvision's smallest detectors, whose names end in 320.
Detectors scale images themselves.
"""


def build(argument: str, *, weights: bool) -> Built:
    """Create ``NAME`` by ``torchvision.models.get_model``.

    The weights are the newest ones, or those of the option ``weights=IMAGENET1K_V1``; random ones when
    ``weights`` or the option ``pretrained`` is false.

    Raises:
        TsdistillError: no such name or weights, options that do not fit, or weights that cannot be fetched.
    """
    spec = f"torchvision:{argument}"
    name, options = parse(argument, spec)
    pretrained = bool(options.pop("pretrained", True)) and weights
    chosen = str(options.pop("weights", "DEFAULT"))
    refuse(options, _REFUSED, spec, "leave it out")
    if name not in models.list_models():
        near = difflib.get_close_matches(name, models.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see torchvision.models.list_models()"
        raise TsdistillError(f"{spec}: torchvision {torchvision.__version__} has no model {name!r}; {hint}")
    entry = _weights(name, chosen, spec)
    model = _create(name, options, entry if pretrained else None, spec)
    return Built(model, _canonical(model, name, options), _input(entry))


def _weights(name: str, chosen: str, spec: str) -> Any:
    enum = models.get_model_weights(name)
    if not hasattr(enum, chosen):
        known = ", ".join(entry.name for entry in enum)
        raise TsdistillError(f"{spec}: {name} has no weights {chosen!r}; known: {known or 'none'}")
    return getattr(enum, chosen)


def _create(name: str, options: dict[str, Any], weights: Any, spec: str) -> nn.Module:
    try:
        return _call(name, options, weights)
    except Exception as error:
        cause = cause_of(error)
        if weights is not None and _download_failed(error):
            raise TsdistillError(
                f"{spec}: its weights are not in the cache and cannot be fetched ({cause}); connect to the "
                "network once, give a file as MODEL, or add pretrained=false"
            ) from error
        raise TsdistillError(f"{spec}: torchvision cannot build it ({cause}); check the options") from error


def _download_failed(error: BaseException) -> bool:
    """Whether an error came from downloading: an OSError (urllib's are), or a checksum that does not fit."""
    return isinstance(error, OSError) or "invalid hash value" in str(error)


def arguments(name: str, options: Mapping[str, Any], *, weights: bool) -> dict[str, Any]:
    """What ``torchvision.models.get_model`` takes for ``options`` besides the name and the weights.

    Args:
        name: name of the model.
        options: options of the specification.
        weights: whether pretrained weights are loaded.
    """
    keywords = dict(options)
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    if "weights_backbone" in parameters:
        keywords["weights_backbone"] = None
    if name in ("googlenet", "inception_v3") and not weights:
        keywords.setdefault("init_weights", False)
    return keywords


def _call(name: str, options: dict[str, Any], weights: Any) -> nn.Module:
    keywords = arguments(name, options, weights=weights is not None)
    with _block_widths_on_cpu(), quiet_downloads():
        return models.get_model(name, weights=weights, **keywords)


@contextmanager
def _block_widths_on_cpu() -> Iterator[None]:
    """RegNet computes its widths with tensors, which have no values while one builds on ``meta``."""
    original = regnet.BlockParams.from_init_params

    def on_cpu(*args: Any, **options: Any) -> Any:
        with torch.device("cpu"):
            return original(*args, **options)

    with patch.object(regnet.BlockParams, "from_init_params", on_cpu):
        yield


def _canonical(model: nn.Module, name: str, options: dict[str, OptionValue]) -> str:
    """The specification, with the options that torchvision changes on its own for pretrained weights."""
    kept = dict(options)
    kept.pop("init_weights", None)
    if name in ("googlenet", "inception_v3"):
        kept |= {"aux_logits": bool(model.aux_logits), "transform_input": bool(model.transform_input)}
        for key, default in (("aux_logits", True), ("transform_input", False)):
            if kept[key] == default:
                del kept[key]
    elif getattr(model, "aux_classifier", None) is not None:
        kept["aux_loss"] = True
    if "num_classes" in kept and kept["num_classes"] == default_classes(name):
        del kept["num_classes"]
    return join("torchvision", name, kept)


def default_classes(name: str) -> int | None:
    """How many classes the bare name builds; ``None`` for models that do not classify."""
    categories = models.get_model_weights(name).DEFAULT.meta.get("categories")
    return len(categories) if categories else None


def _input(weights: Any) -> InputSpec | None:
    """What the transforms of these weights say; detectors take images in [0, 1] and scale them."""
    transforms, kind = weights.transforms(), type(weights).__module__
    if ".detection." in kind:
        return InputSpec((3, _DETECTION_SIDE, _DETECTION_SIDE), source="torchvision's weights")
    resize, mean = getattr(transforms, "resize_size", None), getattr(transforms, "mean", None)
    crop = getattr(transforms, "crop_size", None) or resize
    if not crop or mean is None:
        return None
    sides = (int(crop[0]), int(crop[-1]))
    clip = (int(weights.meta.get("min_temporal_size", _CLIP_FRAMES)),) if ".video." in kind else ()
    return InputSpec(
        size=(len(mean), *clip, *sides),
        mean=tuple(float(v) for v in mean),
        std=tuple(float(v) for v in transforms.std),
        interpolation=str(transforms.interpolation.value),
        crop_pct=sides[0] / int(resize[0]) if resize else 1.0,
        source="torchvision's weights",
    )
