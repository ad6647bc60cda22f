"""Models of transformers: ``hf:FOLDER``, ``hf:NAME`` of the hub, ``hf:CLASS,key=value...`` by configuration.

``#CLASS`` behind a folder or a name picks the class; without it, it is the one that the configuration names.
Code that comes with a model is never run: classes are transformers' own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from pydantic import model_validator

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.files import size_guard
from tsdistill.models.files.hub_folder import INDEXED, shards
from tsdistill.models.info import InputSpec
from tsdistill.models.sources import specs
from tsdistill.models.sources.hf_inputs import is_transformers
from tsdistill.models.sources.offline import quiet_downloads
from tsdistill.models.sources.specs import Built, OptionValue
from tsdistill.printable import printable
from tsdistill.schema import LARGEST, Entries, Schema, Text, read_json, validated
from tsdistill.untrusted import read_guard

CONFIG_FILE = "config.json"
_CLASS = re.compile(r"[A-Z][A-Za-z0-9_]*")
_REFUSED = ("attn_implementation", "auto_map", "quantization_config", "trust_remote_code", "use_kernels")
_LEFT_OUT = (
    "transformers_version",
    "architectures",
    "model_type",
    "dtype",
    "torch_dtype",
    "use_cache",
    "stage_names",
)
_LARGEST, _DEEPEST = 2**20, 1024
_WAY_OUT = "save the model again"


def build(argument: str, *, weights: bool) -> Built:
    """Create the model of a folder, of the hub or of a configuration that the specification spells out.

    Raises:
        TsdistillError: transformers is not installed, there is no such folder, name or class, options that do
            not fit, or weights that are not there.
    """
    spec = f"hf:{argument}"
    library = _library(spec)
    name, options = specs.parse(argument, spec)
    place, _, wanted = name.partition("#")
    with _silent(library):
        if not wanted and _CLASS.fullmatch(place):
            kind = _class(library, place, spec)
            model = _from_configuration(kind, _configuration(kind, options, spec), spec)
        else:
            if options:
                raise TsdistillError(
                    f"{spec}: options go with a class (hf:BertModel,hidden_size=128), not here"
                )
            model = _pretrained(library, place, wanted, weights, spec)
        _forget_place(model)
        with read_guard(f"{spec}: its configuration", _WAY_OUT):
            return Built(model, canonical(model), _input(model))


@contextmanager
def _silent(library: Any) -> Iterator[None]:
    """Without the library's own log lines, which carry what files say to the terminal as it is."""
    before = library.logging.get_verbosity()
    library.logging.set_verbosity(library.logging.CRITICAL)
    try:
        yield
    finally:
        library.logging.set_verbosity(before)


def canonical(model: Any) -> str:
    """``hf:CLASS,key=value...``: the class and all of its configuration that differs from the defaults."""
    parts = getattr(model.config_class, "sub_configs", {})
    changed = _changed(model.config.to_dict(), model.config_class().to_dict(), parts)
    return spelt(type(model).__name__, changed)


def spec_of(model: Any) -> str | None:
    """What builds a model of one of transformers' own classes again; ``None`` for any other module."""
    if not is_transformers(model):
        return None
    import transformers

    return canonical(model) if getattr(transformers, type(model).__name__, None) is type(model) else None


def spelt(kind: str, options: Mapping[str, Any]) -> str:
    """``hf:CLASS,key=value...`` of a class by its name and the fields of its configuration."""
    return f"hf:{kind}" + "".join(f",{key}={_text(value)}" for key, value in sorted(options.items()))


def _forget_place(model: Any) -> None:
    """The folder or name that a model came from is no part of what it is."""
    for module in model.modules():
        if "name_or_path" in vars(module):
            module.name_or_path = module.config._name_or_path = ""


def _changed(fields: dict[str, Any], defaults: dict[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the defaults; of ``parts``, configurations inside, what differs from theirs (all of
    it where their kind is not fixed), and what kind they are."""
    changed: dict[str, Any] = {}
    for key, value in fields.items():
        if not isinstance(key, str) or key.startswith("_") or key in (*_REFUSED, *_LEFT_OUT):
            continue
        other = defaults.get(key)
        if key in parts and isinstance(value, dict) and isinstance(other, dict):
            fixed = getattr(parts[key], "__name__", "") != "AutoConfig"
            inner = _changed(value, other if fixed else {}, {})
            if inner:
                named = {"model_type": value["model_type"]} if value.get("model_type") else {}
                changed[key] = {**named, **inner}
        elif key not in defaults or value != other:
            changed[key] = value
    return changed


def _library(spec: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise TsdistillError(f"{spec}: transformers is not installed; pip install tsdistill[hf]") from error
    return transformers


def _class(library: Any, name: str, spec: str) -> Any:
    kind = getattr(library, name, None)
    if name.startswith("AutoModel") and hasattr(kind, "from_config"):
        return kind
    if not isinstance(kind, type) or not issubclass(kind, library.PreTrainedModel):
        raise TsdistillError(
            f"{spec}: transformers {library.__version__} has no model class {name!r}; "
            "give hf:FOLDER, hf:NAME or a class such as hf:BertForSequenceClassification"
        )
    if getattr(kind, "config_class", None) is None:
        raise TsdistillError(
            f"{spec}: {name} is not a class that is built by itself; name the one for a task"
        )
    return kind


def _configuration(kind: Any, options: dict[str, OptionValue], spec: str) -> Any:
    if not hasattr(kind, "config_class"):
        raise TsdistillError(
            f"{spec}: {kind.__name__} goes behind a folder or a name: hf:FOLDER#{kind.__name__}"
        )
    fields = {key: _value(value) for key, value in options.items()}
    for key, value in _entries("", fields):
        if key in _REFUSED or key.startswith("_"):
            raise TsdistillError(f"{spec}: the option {key!r} cannot be given here; leave it out")
        most = _DEEPEST if _counts_layers(key) else _LARGEST
        if isinstance(value, int) and abs(value) > most:
            raise TsdistillError(f"{spec}: {key}={value} is more than the {most} that are allowed")
    if "use_pretrained_backbone" in vars(kind.config_class()):
        fields["use_pretrained_backbone"] = False
    for inner in fields.values():
        if isinstance(inner, dict) and inner.get("model_type") == "timm_backbone":
            inner["use_pretrained_backbone"] = False
    try:
        return kind.config_class.from_dict(fields)
    except Exception as error:
        raise TsdistillError(
            f"{spec}: transformers refuses this configuration ({cause_of(error)})"
        ) from error


def _entries(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A value and all that it holds, each with the key that it lies under."""
    yield key, value
    if isinstance(value, dict):
        for inner, item in value.items():
            yield from _entries(str(inner), item)
    elif isinstance(value, list):
        for item in value:
            yield from _entries(key, item)


def _counts_layers(key: str) -> bool:
    return "layers" in key or key == "n_layer"


def _from_configuration(kind: Any, config: Any, spec: str) -> Any:
    try:
        return kind(config)
    except Exception as error:
        raise TsdistillError(f"{spec}: transformers cannot build it ({cause_of(error)}); check it") from error


def _pretrained(library: Any, place: str, wanted: str, weights: bool, spec: str) -> Any:
    folder = Path(place).expanduser()
    local = folder.exists() or place.startswith((".", "/", "~"))
    if local and not (folder / CONFIG_FILE).is_file():
        raise TsdistillError(
            f"{spec}: there is no {CONFIG_FILE} in {folder}; name a folder of save_pretrained"
        )
    source = str(folder) if local else place
    if local:
        _check_folder(folder, spec)
    try:
        with quiet_downloads():
            if not local:
                fields = library.PretrainedConfig.get_config_dict(source)[0]
                validated(_ConfigFields, fields, f"{spec}: its configuration", _WAY_OUT)
            config = library.AutoConfig.from_pretrained(
                source, trust_remote_code=False, local_files_only=local
            )
    except TsdistillError:
        raise
    except Exception as error:
        raise TsdistillError(
            f"{spec}: its configuration cannot be read ({cause_of(error)}); give a folder that is there, or "
            "connect to the network once"
        ) from error
    kind = _class(library, wanted or _named(config, spec), spec)
    held = _stored_bytes(folder) if local else None
    if not weights:
        make = kind if hasattr(kind, "config_class") else kind.from_config
        with size_guard.limited(held):
            return _from_configuration(make, config, spec)
    try:
        with quiet_downloads(), size_guard.limited(held):
            return kind.from_pretrained(
                source, config=config, local_files_only=local, use_safetensors=True, trust_remote_code=False
            )
    except Exception as error:
        raise TsdistillError(
            f"{spec}: its weights cannot be read ({cause_of(error)}); give a folder with .safetensors files, "
            "or connect to the network once"
        ) from error


def _check_folder(folder: Path, spec: str) -> None:
    """Refuse a folder whose configuration or index could not be one of a model.

    Raises:
        TsdistillError: it is damaged, asks for something enormous, or names files outside of the folder.
    """
    read_json(folder / CONFIG_FILE, _ConfigFields, _WAY_OUT, f"{spec}: its configuration")
    for name in INDEXED:
        if (folder / name).is_file():
            shards(folder / name)


def _stored_bytes(folder: Path) -> int:
    """Bytes of the weights in a folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors") if file.is_file())


class _ConfigFields(Schema):
    """``config.json`` of transformers, as far as the kind of model follows from it."""

    architectures: list[Text] | None = None
    model_type: Text | None = None
    id2label: Entries[Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, fields: Any) -> Any:
        for key, value in _entries("", fields):
            most = _DEEPEST if _counts_layers(key) else _LARGEST if key == "num_labels" else LARGEST
            if isinstance(value, int) and (value > most or value < -LARGEST):
                raise ValueError(f"is refused: {printable(key, 60)} asks for something enormous")
        return fields


def _named(config: Any, spec: str) -> str:
    names = getattr(config, "architectures", None) or []
    if not names:
        raise TsdistillError(f"{spec}: its configuration names no class; add one as in {spec}#AutoModel")
    return str(names[0])


def _input(model: Any) -> InputSpec | None:
    """How images look; texts and sound have no `InputSpec` (see `hf_inputs`)."""
    if getattr(model, "main_input_name", "") != "pixel_values":
        return None
    side, channels = getattr(model.config, "image_size", None), getattr(model.config, "num_channels", 3)
    if isinstance(side, int):
        side = (side, side)
    if not side or not isinstance(channels, int):
        return None
    half = (0.5,) * channels
    return InputSpec((channels, *map(int, side)), half, half, source="transformers' configuration")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return quote(json.dumps(value), safe=" :{}[].-+_")


def _value(value: OptionValue) -> Any:
    if not isinstance(value, str):
        return value
    text = unquote(value)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
