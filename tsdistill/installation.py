"""What an installation has: versions, optional packages, devices, and what is missing for which extra."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tsdistill.version import __version__

PACKAGE = "tsdistill"

_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)[^;]*(?:;.*extra\s*==\s*['\"]([^'\"]+)['\"])?")
"""A requirement of a distribution's metadata: the package, and the extra that asks for it."""

_FOR_DEVELOPERS = ("test", "dev")
"""Extras that a user does not need."""

_VARIABLES = ("TSDISTILL_", "HF_", "TRANSFORMERS_", "OMP_", "MKL_", "CUDA_", "TORCH_", "PYTORCH_")
"""How environment variables begin that change what the toolkit does."""


@dataclass(frozen=True)
class Installation:
    """What an installation has.

    Attributes:
        packages: name -> version, of the toolkit and of what it needs; ``None`` where it is missing.
        extras: name of an extra -> the packages of it that are missing.
        devices: what models run on, in words.
        threads: threads that PyTorch uses on the CPU.
        variables: environment variables that change what the toolkit does.
        cache: the folder of downloaded weights.
        free: bytes that are free there; ``None`` where there is no such file system.
        system: operating system, processor, Python.
    """

    packages: Mapping[str, str | None]
    extras: Mapping[str, tuple[str, ...]]
    devices: tuple[str, ...]
    threads: int
    variables: Mapping[str, str]
    cache: str
    free: int | None
    system: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"format": 1, "kind": "installation", **vars(self)}


def installation() -> Installation:
    """Look at the installation that runs this.

    Raises:
        ImportError: PyTorch cannot be imported.
    """
    import torch

    needed, extras = requirements()
    known = {name: version_of(name) for name in (PACKAGE, *needed)}
    known[PACKAGE] = known[PACKAGE] or __version__
    known |= {n: v for names in extras.values() for n in names if (v := version_of(n)) is not None}
    lacking = {extra: tuple(n for n in names if version_of(n) is None) for extra, names in extras.items()}
    cache = _cache()
    return Installation(
        packages=known,
        extras=lacking,
        devices=_devices(),
        threads=torch.get_num_threads(),
        variables={name: os.environ[name] for name in sorted(os.environ) if _is_shown(name)},
        cache=str(cache),
        free=_free(cache),
        system=f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}",
    )


def requirements() -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """The packages that the toolkit needs, and by extra those that it can use; nothing where it runs from a
    folder that is not installed."""
    needed: list[str] = []
    extras: dict[str, list[str]] = defaultdict(list)
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        lines = []
    for line in lines:
        match = _REQUIREMENT.match(line)
        if match is None or match[1] == PACKAGE or match[2] in _FOR_DEVELOPERS:
            continue
        (needed if match[2] is None else extras[match[2]]).append(match[1])
    return tuple(needed), {extra: tuple(names) for extra, names in sorted(extras.items())}


def version_of(package: str) -> str | None:
    """The version of a package, ``None`` where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _is_shown(name: str) -> bool:
    return name.startswith(_VARIABLES) and "TOKEN" not in name


def _devices() -> tuple[str, ...]:
    import torch

    names = ["cpu"]
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        memory = torch.cuda.get_device_properties(number).total_memory
        names.append(f"cuda:{number} ({torch.cuda.get_device_name(number)}, {memory / 2**30:.0f} GiB)")
    if torch.backends.mps.is_available():
        names.append("mps")
    return tuple(names)


def _cache() -> Path:
    """The folder in which the Hugging Face hub keeps what it downloads."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _free(folder: Path) -> int | None:
    existing = next((place for place in (folder, *folder.parents) if place.is_dir()), None)
    try:
        return None if existing is None else shutil.disk_usage(existing).free
    except OSError:
        return None
