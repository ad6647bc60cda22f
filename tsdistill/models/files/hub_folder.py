"""Folders as the Hugging Face hub lays them out: a configuration beside weights in one file or in shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from tsdistill.errors import TsdistillError
from tsdistill.models.files import checkpoint
from tsdistill.models.files.checkpoint import Contents
from tsdistill.models.files.header import InputFields
from tsdistill.models.info import InputSpec
from tsdistill.models.sources.specs import OptionValue, join
from tsdistill.options.data_options import INTERPOLATIONS
from tsdistill.options.option_fields import written
from tsdistill.printable import LONGEST_NAME, printable
from tsdistill.schema import Entries, Schema, Size, Text, read_json, validated

CONFIGURATION = "config.json"
WHOLE = ("model.safetensors", "pytorch_model.bin")
INDEXED = tuple(f"{name}.index.json" for name in WHOLE)
_WAY_OUT = "fetch it again"


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


def of_transformers(folder: Path) -> bool:
    """Whether a folder holds a model of transformers, as ``save_pretrained`` writes it."""
    path = folder / CONFIGURATION
    if not path.is_file():
        return False
    config = read_json(path, _TimmFields, _WAY_OUT)
    return config.architecture is None and (config.model_type or config.architectures) is not None


def shards(index: Path) -> dict[str, str]:
    """Which shard of a model holds which tensor, as the index beside them says; by the tensor's name.

    Raises:
        TsdistillError: the index is damaged, or names a file that does not lie beside it.
    """
    return read_json(index, _IndexFields, _WAY_OUT).weight_map


def _joined(index: Path, trust: bool) -> dict[str, Any]:
    """The tensors of all shards."""
    places = shards(index)
    tensors: dict[str, Any] = {}
    for name in dict.fromkeys(places.values()):
        tensors |= checkpoint.read(index.with_name(name), trust=trust).tensors
    lost = next((name for name in places if name not in tensors), None)
    if lost is not None:
        raise TsdistillError(f"{index}: the shards hold no {printable(lost, LONGEST_NAME)!r}; {_WAY_OUT}")
    return tensors


def _configured(path: Path) -> tuple[str | None, InputSpec | None]:
    """Specification and inputs out of a configuration of timm's; lists of one value are that value."""
    if not path.is_file():
        return None, None
    config = read_json(path, _TimmFields, _WAY_OUT)
    name = config.architecture
    if name is None and (config.model_type is not None or config.architectures is not None):
        raise TsdistillError(
            f"{path.parent} holds a model of transformers; name it as hf:{path.parent}, or give its file of "
            f"weights with {written('arch')}"
        )
    if name is None:
        return None, None
    options: dict[str, OptionValue] = {
        key: value[0] if isinstance(value, list) else value
        for key, value in (config.model_args or {}).items()
    }
    if config.num_classes is not None:
        options["num_classes"] = config.num_classes
    return join("timm", name, options), _input(config.pretrained_cfg, path)


def _input(config: Any, path: Path) -> InputSpec | None:
    if not isinstance(config, dict) or "input_size" not in config:
        return None
    interpolation = config.get("interpolation")
    fields = {
        "size": config["input_size"],
        "mean": config.get("mean"),
        "std": config.get("std"),
        "interpolation": interpolation if interpolation in INTERPOLATIONS else INTERPOLATIONS[0],
        "crop_pct": config.get("crop_pct", 1.0),
    }
    return validated(InputFields, fields, f"{path}: pretrained_cfg", _WAY_OUT).spec()


def _file_name(name: str) -> str:
    if Path(name).name != name or "\\" in name:
        raise ValueError("is no plain name of a file: shards lie beside their index")
    return name


def _identifier(name: str) -> str:
    if not name.isidentifier():
        raise ValueError("is no name of an option")
    return name


def _plain(value: Any) -> Any:
    """A value that a specification spells out; a list of one value again and again is that value."""
    values = value if isinstance(value, list) else [value]
    if not values or any(each != values[0] for each in values):
        raise ValueError("is not one plain value")
    first = values[0]
    if not isinstance(first, (bool, int, float, str)) or "," in str(first) or not str(first).isprintable():
        raise ValueError("is not one plain value")
    return value


def _timm_name(name: str) -> str:
    if not name.replace("_", "").replace(".", "").isalnum():
        raise ValueError("is no name of timm's")
    return name


class _IndexFields(Schema):
    """``model.safetensors.index.json``."""

    weight_map: Entries[Annotated[Text, AfterValidator(_file_name)]]


class _TimmFields(Schema):
    """``config.json`` of timm, as far as it is read, and the field that distinguishes it from one of
    transformers."""

    architecture: Annotated[Text, AfterValidator(_timm_name)] | None = None
    model_type: Any = None
    architectures: Any = None
    model_args: (
        dict[Annotated[Text, AfterValidator(_identifier)], Annotated[Any, AfterValidator(_plain)]] | None
    ) = None
    num_classes: Size | None = None
    pretrained_cfg: Any = None
