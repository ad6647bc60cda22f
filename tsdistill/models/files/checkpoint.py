"""Files of tensors as timm, Lightning, DDP and EMA users save them; unpickled only with ``trust``."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.files import torch_save
from tsdistill.models.files.pickled_values import Damaged, Foreign, Stored
from tsdistill.models.files.unpickler import Pickled
from tsdistill.models.info import InputSpec
from tsdistill.options.option_fields import written

PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".tar", ".pkl", ".th")
SAFETENSORS = ".safetensors"
PROGRAM = ".pt2"
SUFFIXES = (*PICKLES, SAFETENSORS, PROGRAM)
HEADER = "tsdistill"

_EMA = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
_WRAPPERS = (
    *_EMA,
    "state_dict",
    "model",
    "model_state_dict",
    "module",
    "net",
    "network",
    "weights",
    "params",
)
_PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "network.",
    "backbone.",
    "encoder.",
    "timm_model.",
    "ema_model.",
)
_MAX_PREFIXES = 6
"""Prefixes that are cut one after another. Wrappers (data parallel, compiled, moving average, Lightning) put
two or three before a name; the limit bounds the search.
"""

_MAX_NAME = 512
"""Characters of a tensor's name: one longer than any nest of modules gives is a sign of damage."""

_MAX_SHOWN = 3
"""Names of classes in a message, so that it stays on one line."""


@dataclass(frozen=True)
class Contents:
    """What a file or a folder holds.

    Attributes:
        tensors: by name, in the order of the file.
        header: the metadata of our own format as it was read, unchecked; ``None`` for foreign files.
        module: a whole pickled module (only with trust), else ``None``.
        notes: lines for the user.
        arch: the specification that a configuration beside the weights names, unchecked.
        input: how inputs look, as that configuration says.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    header: Any = None
    module: nn.Module | None = None
    notes: tuple[str, ...] = ()
    arch: str | None = None
    input: InputSpec | None = None


def check_name(path: Path) -> None:
    """Raise TsdistillError where PyTorch and safetensors cannot open ``path``: they take UTF-8 names only."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise TsdistillError(
            f"{path}: its name is not UTF-8, and PyTorch reads files with such names only; rename it"
        ) from error


def read(path: Path, *, trust: bool = False) -> Contents:
    """Read the tensors of a file, memory-mapped; those of ``torch.save`` are read without unpickling.

    Raises:
        TsdistillError: the file is missing, truncated, of an unknown kind, holds no tensors, or holds pickled
            objects and ``trust`` is false.
    """
    suffix = path.suffix.lower()
    if not path.exists():
        raise TsdistillError(f"{path}: there is no such file")
    if not path.is_file():
        raise TsdistillError(f"{path} is not a file; give a file of weights ({', '.join(SUFFIXES)})")
    check_name(path)
    if suffix not in SUFFIXES:
        raise TsdistillError(f"{path}: files of weights end in {', '.join(SUFFIXES)}")
    try:
        if suffix == SAFETENSORS:
            contents = _read_safetensors(path)
        elif suffix == PROGRAM:
            from tsdistill.models.files import exported_program

            contents = Contents(exported_program.weights(path))
        elif trust:
            contents = _unwrap(_unpickled(path), path, Pickled())
        else:
            contents = _read_torch(path)
    except OSError as error:
        raise TsdistillError(f"{path} cannot be read: {error.strerror or error}") from error
    _check_names(contents.tensors, path)
    return contents


def variants(
    tensors: Mapping[str, torch.Tensor], deepest: int = _MAX_PREFIXES
) -> Iterator[dict[str, torch.Tensor]]:
    """The tensors as they are, and without the prefixes that wrappers put before names, the longest cut last.

    A prefix counts when at least half of the names have it; the others (a loss, a metric) are then left out.
    At most ``deepest`` prefixes are cut one after another.
    """
    yield dict(tensors)
    for prefix in _PREFIXES if deepest else ():
        inner = {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}
        if inner and 2 * len(inner) >= len(tensors):
            yield from variants(inner, deepest - 1)


def _read_safetensors(path: Path) -> Contents:
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise TsdistillError(
            f"{path} is truncated or not a safetensors file ({cause_of(error)}); fetch it again"
        ) from error
    if not tensors:
        raise TsdistillError(f"{path} holds no tensors")
    return Contents(tensors, header)


def _read_torch(path: Path) -> Contents:
    try:
        file = torch_save.read(path)
        _refuse_calls(file.pickled, path)
        contents = _unwrap(file.pickled.value, path, file.pickled)
        stored: dict[str, Any] = dict(contents.tensors)
        return replace(contents, tensors=torch_save.tensors(path, stored, file.spans))
    except (Damaged, ValueError) as error:
        raise _not_saved(path, error) from error


def _refuse_calls(pickled: Pickled, path: Path) -> None:
    if pickled.calls:
        raise _objects(path, pickled.calls)


def _objects(path: Path, names: list[str]) -> TsdistillError:
    return TsdistillError(
        f"{path} holds pickled Python objects ({', '.join(names[:_MAX_SHOWN])}), which run code when read; "
        f"save model.state_dict() instead, or give {written('trust', True)} if you trust its origin"
    )


def _unpickled(path: Path) -> Any:
    try:
        mapped = zipfile.is_zipfile(path)
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=False, mmap=mapped)
    except OSError:
        raise
    except Exception as error:
        raise _not_saved(path, error) from error


def _not_saved(path: Path, error: Exception) -> TsdistillError:
    if "TorchScript" in str(error):
        return TsdistillError(f"{path} is a TorchScript archive; save model.state_dict() instead")
    return TsdistillError(
        f"{path} is truncated or not a file of torch.save ({cause_of(error)}); fetch or save it again"
    )


def _unwrap(loaded: Any, path: Path, pickled: Pickled) -> Contents:
    if isinstance(loaded, nn.Module):
        return Contents(module=loaded)
    if isinstance(loaded, Foreign):
        raise _objects(path, [loaded.name])
    if not isinstance(loaded, Mapping):
        raise TsdistillError(f"{path} holds a {type(loaded).__name__}, not weights; save model.state_dict()")
    if HEADER in loaded and isinstance(loaded.get("state_dict"), Mapping):
        return Contents(_tensors(loaded["state_dict"]), loaded[HEADER])
    unread = _unread(pickled)
    for key in _WRAPPERS:
        inner = loaded.get(key)
        if isinstance(inner, nn.Module):
            return Contents(module=inner, notes=(f"the module under {key!r} was taken",))
        if isinstance(inner, Mapping) and _tensors(inner):
            average = " (moving averages)" if key in _EMA else ""
            taken = f"the weights under {key!r}{average} were taken"
            return Contents(_tensors(inner), notes=(taken, *unread))
    tensors = _tensors(loaded)
    if not tensors and pickled.classes:
        raise _objects(path, pickled.classes)
    if not tensors:
        keys = ", ".join(repr(key)[:40] for key in list(loaded)[:5])
        raise TsdistillError(f"{path} holds no weights (its keys: {keys or 'none'}); save model.state_dict()")
    return Contents(tensors, notes=unread)


def _unread(pickled: Pickled) -> tuple[str, ...]:
    if not pickled.classes:
        return ()
    more = f" and {len(pickled.classes) - _MAX_SHOWN} more" if len(pickled.classes) > _MAX_SHOWN else ""
    return (f"objects of {', '.join(pickled.classes[:_MAX_SHOWN])}{more} in the file were left unread",)


def _tensors(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    return {n: t for n, t in mapping.items() if isinstance(n, str) and isinstance(t, (torch.Tensor, Stored))}


def _check_names(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    for name in tensors:
        if len(name) > _MAX_NAME or not name.isprintable():
            raise TsdistillError(
                f"{path} is damaged: the name of a tensor, {name[:40]!a}..., is no name; fetch it again"
            )
