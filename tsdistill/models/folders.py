"""Folders as the Hugging Face hub lays them out: a configuration beside weights in one file or in shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tsdistill.errors import TsdistillError
from tsdistill.models import checkpoint, json_text
from tsdistill.models.checking import Checker
from tsdistill.models.checkpoint import Contents
from tsdistill.models.info import InputSpec
from tsdistill.models.inputs import INTERPOLATIONS
from tsdistill.models.specs import OptionValue, join

CONFIGURATION = "config.json"
WHOLE = ("model.safetensors", "pytorch_model.bin")
INDEXED = tuple(f"{name}.index.json" for name in WHOLE)


def read(folder: Path, *, trust: bool = False) -> Contents:
    """Read the weights of a folder, and what its configuration says when that is timm's.

    Raises:
        TsdistillError: no weights, damaged ones, or a configuration of another library.
    """
    path = next((folder / name for name in (*WHOLE, *INDEXED) if (folder / name).is_file()), None)
    if path is None:
        raise TsdistillError(
            f"{folder} is not a file, nor a folder with {' or '.join(WHOLE)}; give a file of weights"
        )
    arch, spec = _configured(folder / CONFIGURATION)
    if path.name in WHOLE:
        contents = checkpoint.read(path, trust=trust)
        if contents.header is not None or contents.module is not None:
            return contents
        return Contents(contents.tensors, notes=contents.notes, arch=arch, input=spec)
    return Contents(_joined(path, trust), arch=arch, input=spec)


def _joined(index: Path, trust: bool) -> dict[str, Any]:
    """The tensors of all shards; their files lie beside the index and nowhere else."""
    check = Checker(index)
    places = check.mapping(json_text.read(index).get("weight_map"), "weight_map")
    tensors: dict[str, Any] = {}
    for name in dict.fromkeys(check.text(place, "weight_map") for place in places.values()):
        if Path(name).name != name or "\\" in name:
            raise check.error(f"the shard {name[:60]!r} is no plain name of a file")
        tensors |= checkpoint.read(index.with_name(name), trust=trust).tensors
    lost = next((name for name in places if name not in tensors), None)
    if lost is not None:
        raise check.error(f"the shards hold no {lost[:60]!a}")
    return tensors


def _configured(path: Path) -> tuple[str | None, InputSpec | None]:
    """Specification and inputs out of a configuration of timm's; lists of one value are that value."""
    if not path.is_file():
        return None, None
    config, check = json_text.read(path), Checker(path)
    name = config.get("architecture")
    if name is None and ("model_type" in config or "architectures" in config):
        raise TsdistillError(
            f"{path.parent} holds a model of transformers; name it as hf:{path.parent}, or give its file of "
            "weights with --arch (arch=)"
        )
    if name is None:
        return None, None
    name = check.text(name, "architecture")
    if not name.replace("_", "").replace(".", "").isalnum():
        raise check.error(f"{name[:60]!r} is no name of timm's")
    options: dict[str, OptionValue] = {}
    for key, value in check.mapping(config.get("model_args") or {}, "model_args").items():
        if isinstance(value, list) and value and all(each == value[0] for each in value):
            value = value[0]
        if not isinstance(value, (bool, int, float, str)) or not key.isidentifier() or "," in str(value):
            raise check.error(f"the option {key[:40]!r} is not a plain one")
        options[key] = value
    if config.get("num_classes") is not None:
        options["num_classes"] = check.integer(config["num_classes"], "num_classes")
    return join("timm", name, options), _input(config.get("pretrained_cfg"), check)


def _input(config: Any, check: Checker) -> InputSpec | None:
    if not isinstance(config, dict) or "input_size" not in config:
        return None
    interpolation = config.get("interpolation")
    return check.input(
        {
            "size": config["input_size"],
            "mean": config.get("mean"),
            "std": config.get("std"),
            "interpolation": interpolation if interpolation in INTERPOLATIONS else INTERPOLATIONS[0],
            "crop_pct": config.get("crop_pct", 1.0),
        }
    )
