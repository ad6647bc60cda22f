"""Models of timm: ``timm:NAME[,key=value...]``."""

from __future__ import annotations

import difflib
from typing import Any

import timm
import timm.data
import torch
from torch import nn

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.files.stored_weights import shapes_of
from tsdistill.models.info import InputSpec, ModelInfo
from tsdistill.models.sources.offline import quiet_downloads
from tsdistill.models.sources.specs import Built, OptionValue, join, parse, refuse
from tsdistill.options.option_fields import written

_REFUSED = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


def build(argument: str, *, weights: bool) -> Built:
    """Create ``NAME`` by ``timm.create_model``; pretrained unless ``weights`` or ``pretrained`` is false.

    Raises:
        TsdistillError: no such name or weights, options that do not fit, or weights that cannot be fetched.
    """
    spec = f"timm:{argument}"
    name, options = parse(argument, spec)
    pretrained = bool(options.pop("pretrained", True)) and weights
    refuse(options, _REFUSED, spec, f"give a file as MODEL with {written('arch')}")
    hub = name.partition(":")[0] in ("hf-hub", "hf_hub") and bool(name.partition(":")[2])
    if hub and not weights:
        raise TsdistillError(f"{spec}: name the architecture as timm.list_models() does")
    if not hub:
        check_name(name, spec)
    model = _create(name, options, pretrained, spec)
    return Built(model, _canonical(model, name, options), _input(model, options))


def describe(model: nn.Module) -> ModelInfo:
    """What a model that ``timm.create_model`` made elsewhere says about itself (options are not known)."""
    config = getattr(model, "pretrained_cfg", None)
    base = config.get("architecture") if isinstance(config, dict) else None
    if not isinstance(base, str) or not timm.is_model(base):
        return ModelInfo()
    classes = getattr(model, "num_classes", None)
    options: dict[str, OptionValue] = {}
    if isinstance(classes, int) and classes != default_classes(base):
        options["num_classes"] = classes
    return ModelInfo(arch=join("timm", base, options), input=_input(model, {}))


def check_name(name: str, spec: str) -> None:
    """Refuse a name that the installed timm does not have, with or without a tag of weights.

    Raises:
        TsdistillError: names what comes nearest.
    """
    base, dot, tag = name.partition(".")
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(f'timm:{n}' for n in near)}?" if near else "see timm.list_models()"
        raise TsdistillError(f"{spec}: timm {timm.__version__} has no model {base!r}; {hint}")
    if dot:
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{base}.*")]
        if tag not in tags:
            raise TsdistillError(f"{spec}: {base} has no weights {tag!r}; known: {', '.join(tags) or 'none'}")


def _create(name: str, options: dict[str, Any], pretrained: bool, spec: str) -> nn.Module:
    try:
        with quiet_downloads():
            return timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:
        cause = cause_of(error)
        if pretrained and _builds(name, options):
            if "No pretrained weights exist" in cause:
                way_out = "timm has no weights of it; add pretrained=false"
            else:
                way_out = (
                    f"its weights are not in the cache and cannot be fetched ({cause}); connect to the "
                    "network once, give a file as MODEL, or add pretrained=false"
                )
            raise TsdistillError(f"{spec}: {way_out}") from error
        raise TsdistillError(f"{spec}: timm cannot build it ({cause}); check the options") from error


def _builds(name: str, options: dict[str, Any]) -> bool:
    try:
        with torch.device("meta"):
            timm.create_model(name, pretrained=False, **options)
    except Exception:
        return False
    return True


def _canonical(model: nn.Module, name: str, options: dict[str, OptionValue]) -> str:
    """The specification without the tag of weights, unless the tag changes the architecture."""
    kept = dict(options)
    base, _, tag = name.partition(".")
    if ":" in name:
        base, tag = str(model.pretrained_cfg["architecture"]), "hub"  # type: ignore[index]
    if "num_classes" in kept and kept["num_classes"] == default_classes(base):
        del kept["num_classes"]
    if not tag:
        return join("timm", base, kept)
    own = shapes_of(model.state_dict())
    for extra in ({}, {"num_classes": model.num_classes}):
        tried: dict[str, Any] = {**extra, **kept}
        with torch.device("meta"):
            plain = timm.create_model(base, pretrained=False, **tried)
        if shapes_of(plain.state_dict()) == own:
            return join("timm", base, tried)
    return join("timm", name, options)


def default_classes(base: str) -> int:
    """How many classes the bare name builds."""
    config = timm.get_pretrained_cfg(base)
    return 1000 if config is None else int(config.num_classes)


def _input(model: nn.Module, options: dict[str, OptionValue]) -> InputSpec:
    config = timm.data.resolve_model_data_config(model)
    channels, *sides = config["input_size"]
    size = options.get("img_size")
    if isinstance(size, int) and not isinstance(size, bool):
        sides = [size] * len(sides)
    mean, std = tuple(config["mean"]), tuple(config["std"])
    wanted = options.get("in_chans", channels)
    if isinstance(wanted, int) and wanted != len(mean):
        mean, std = (sum(mean) / len(mean),) * wanted, (sum(std) / len(std),) * wanted
        channels = wanted
    return InputSpec(
        size=(int(channels), *(int(side) for side in sides)),
        mean=tuple(float(v) for v in mean),
        std=tuple(float(v) for v in std),
        interpolation=str(config["interpolation"]),
        crop_pct=float(config["crop_pct"]),
        source="timm's configuration",
    )
