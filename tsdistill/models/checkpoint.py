"""Reading files of tensors as timm, Lightning, DDP and EMA users save them; nothing is unpickled unasked."""

from __future__ import annotations

import argparse
import collections
import pathlib
import pickle
import types
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from tsdistill.errors import TsdistillError

PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".tar")
SAFETENSORS = ".safetensors"
SUFFIXES = (*PICKLES, SAFETENSORS)
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
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")
_HARMLESS: list[Any] = [argparse.Namespace, types.SimpleNamespace, collections.defaultdict, pathlib.PosixPath]


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        tensors: by name, in the order of the file.
        header: the metadata of our own format as it was read, unchecked; ``None`` for foreign files.
        module: a whole pickled module (only with trust), else ``None``.
        notes: lines for the user.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    header: Any = None
    module: nn.Module | None = None
    notes: tuple[str, ...] = ()


def read(path: Path, *, trust: bool = False) -> Contents:
    """Read the tensors of a ``.pt``, ``.pth`` or ``.safetensors`` file, memory-mapped where possible.

    Raises:
        TsdistillError: the file is missing, truncated, of an unknown kind, holds no tensors, or holds pickled
            objects and ``trust`` is false.
    """
    if not path.exists():
        raise TsdistillError(f"{path}: there is no such file")
    if not path.is_file():
        raise TsdistillError(f"{path} is not a file; give a file of weights ({', '.join(SUFFIXES)})")
    if path.suffix.lower() not in SUFFIXES:
        raise TsdistillError(f"{path}: files of weights end in {', '.join(SUFFIXES)}")
    if path.suffix.lower() == SAFETENSORS:
        return _read_safetensors(path)
    return _unwrap(_read_pickle(path, trust), path)


def variants(tensors: Mapping[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    """The tensors as they are, and without the prefixes that wrappers put before names, the longest cut last.

    A prefix counts when at least half of the names have it; the others (a loss, a metric) are then left out.
    """
    yield dict(tensors)
    for prefix in _PREFIXES:
        inner = {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}
        if inner and 2 * len(inner) >= len(tensors):
            yield from variants(inner)


def _read_safetensors(path: Path) -> Contents:
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise TsdistillError(
            f"{path} is truncated or not a safetensors file ({_line(error)}); fetch it again"
        ) from error
    if not tensors:
        raise TsdistillError(f"{path} holds no tensors")
    return Contents(tensors, header)


def _read_pickle(path: Path, trust: bool) -> Any:
    try:
        mapped = zipfile.is_zipfile(path)
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=not trust, mmap=mapped)
    except OSError as error:
        raise TsdistillError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        blocked = [] if trust else _blocked(path, error)
        if blocked:
            raise TsdistillError(
                f"{path} holds pickled Python objects ({', '.join(blocked)}), which run code when read; "
                "save model.state_dict() instead, or pass --trust (trust=True) if you trust its origin"
            ) from error
        if "TorchScript" in str(error):
            raise TsdistillError(
                f"{path} is a TorchScript archive; save model.state_dict() instead"
            ) from error
        raise TsdistillError(
            f"{path} is truncated or not a file of torch.save ({_line(error)}); fetch or save it again"
        ) from error


def _blocked(path: Path, error: Exception) -> list[str]:
    """Names of the classes and functions that kept the file from being read, at most three."""
    try:
        names = [
            name
            for name in torch.serialization.get_unsafe_globals_in_checkpoint(path)
            if name not in {f"{kind.__module__}.{kind.__qualname__}" for kind in _HARMLESS}
        ]
    except Exception:
        names = []
    if not names and isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
        names = ["a whole module or other objects"]
    return names[:3]


def _unwrap(loaded: Any, path: Path) -> Contents:
    if isinstance(loaded, nn.Module):
        return Contents(module=loaded)
    if not isinstance(loaded, Mapping):
        raise TsdistillError(f"{path} holds a {type(loaded).__name__}, not weights; save model.state_dict()")
    if HEADER in loaded and isinstance(loaded.get("state_dict"), Mapping):
        return Contents(_tensors(loaded["state_dict"]), loaded[HEADER])
    for key in _WRAPPERS:
        inner = loaded.get(key)
        if isinstance(inner, nn.Module):
            return Contents(module=inner, notes=(f"the module under {key!r} was taken",))
        if isinstance(inner, Mapping) and _tensors(inner):
            average = " (moving averages)" if key in _EMA else ""
            return Contents(_tensors(inner), notes=(f"the weights under {key!r}{average} were taken",))
    tensors = _tensors(loaded)
    if not tensors:
        keys = ", ".join(repr(key) for key in list(loaded)[:5])
        raise TsdistillError(f"{path} holds no weights (its keys: {keys or 'none'}); save model.state_dict()")
    return Contents(tensors)


def _tensors(mapping: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    return {n: t for n, t in mapping.items() if isinstance(n, str) and isinstance(t, torch.Tensor)}


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
