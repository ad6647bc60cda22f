"""Which architectures there are, how large they are, and which of them stand for their families."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from timm.models import _registry
from torch.overrides import TorchFunctionMode

from . import others as other_networks

Build = Callable[[str], torch.nn.Module]
Measured = Callable[[], tuple[Any, ...]]
"""Gives an architecture's family and parameters, and the specification where its name is none."""

LIMIT = 100_000_000
"""Parameters of the largest architecture that takes part."""

INPUTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("r3d_18", "mc3_18", "r2plus1d_18"), (3, 8, 64, 64)),
    "s3d": (3, 16, 224, 224),
    **dict.fromkeys(("swin3d_t", "swin3d_s", "swin3d_b"), (3, 8, 64, 64)),
    **dict.fromkeys(("fcn_resnet50", "fcn_resnet101"), (3, 128, 128)),
    **dict.fromkeys(
        ("deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large"), (3, 128, 128)
    ),
    "lraspp_mobilenet_v3_large": (3, 128, 128),
}
"""Samples of torchvision's models that are smaller than what their weights were trained on."""

_SIDES = {"min_size": 320, "max_size": 320}
_REGIONS = {**_SIDES, "rpn_post_nms_top_n_test": 100, "box_score_thresh": 0}
OPTIONS = {
    **dict.fromkeys(("fcos_", "retinanet_"), _SIDES),
    **dict.fromkeys(("fasterrcnn_", "maskrcnn_", "keypointrcnn_"), _REGIONS),
}
"""How the names of detectors begin that enlarge their images to 800 pixels -> options for smaller ones, and
for fewer regions, of which random weights find some."""

LEFT_OUT = ("raft_", "_quantized", "quantized_")
"""Parts of torchvision's names that are no network of this sweep: optical flow, and integer weights."""


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes:
        library: ``"timm"``, ``"torchvision"``, ``"transformers"`` or ``"others"``.
        name: what the library calls it.
        family: the file of the library that defines it; of transformers, what it takes.
        params: its parameters; 0 where it cannot be built.
        spelt: the specification that builds it, where that is not its library and name.
    """

    library: str
    name: str
    family: str
    params: int
    spelt: str = ""

    @property
    def spec(self) -> str:
        """What ``tsdistill.load`` takes."""
        return f"{self.library}:{self.name}"

    @property
    def tried(self) -> str:
        """The specification that is tried, with what detectors are told; the factory of another library's."""
        if self.library == "others":
            return f"{Path(other_networks.__file__).resolve()}:{self.name}"
        if self.spelt:
            return self.spelt
        told = next((options for start, options in OPTIONS.items() if self.name.startswith(start)), {})
        return ",".join([self.spec, *(f"{key}={value}" for key, value in told.items())])


def every(library: str, folder: Path, patterns: Sequence[str] = ("*",)) -> list[Architecture]:
    """The architectures of a library whose names match, the small ones first.

    Their sizes are kept in ``folder``, a line for each, so that counting them (minutes) goes on where it was
    stopped.
    """
    kept = folder / f"sizes-{library}-{version(library).partition('+')[0]}.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    found = {row[0]: row for row in map(json.loads, lines)}
    with open(kept, "a") as file:
        for name, measured in _SOURCES[library]():
            if name not in found and any(fnmatch(name, pattern) for pattern in patterns):
                found[name] = (name, *measured())
                print(json.dumps(found[name]), file=file, flush=True)
    matching = [
        Architecture(library, *row)
        for row in found.values()
        if any(fnmatch(row[0], pattern) for pattern in patterns)
    ]
    return sorted(matching, key=lambda each: (each.params, each.name))


def size_of(architecture: Architecture) -> tuple[int, ...] | None:
    """The shape of a sample, where it is not the architecture's own."""
    if architecture.library == "others":
        return other_networks.NETWORKS[architecture.name].size
    return INPUTS.get(architecture.name) if architecture.library == "torchvision" else None


def inputs_of(architecture: Architecture) -> Callable[[int], Any] | None:
    """A seed -> the inputs of a forward, where a sample is no single tensor."""
    return other_networks.NETWORKS[architecture.name].inputs if architecture.library == "others" else None


def others(patterns: Sequence[str] = ("*",)) -> list[Architecture]:
    """Networks of other libraries whose names match, where the library is installed."""
    return [
        Architecture("others", name, network.library, 0)
        for name, network in other_networks.NETWORKS.items()
        if find_spec(network.library) is not None and any(fnmatch(name, pattern) for pattern in patterns)
    ]


def standing(architectures: list[Architecture]) -> list[Architecture]:
    """Two of every family: its smallest and the one of median size; all the smallest come first."""
    families: dict[str, list[Architecture]] = defaultdict(list)
    for each in within(architectures):
        families[each.family].append(each)
    first = [members[0] for members in families.values()]
    second = [members[len(members) // 2] for members in families.values() if len(members) > 1]
    return sorted(first, key=_size) + sorted(second, key=_size)


def within(architectures: list[Architecture]) -> list[Architecture]:
    """Those that can be built and are not too large."""
    return [each for each in architectures if 0 < each.params <= LIMIT]


def _size(each: Architecture) -> int:
    return each.params


def _timm() -> Iterator[tuple[str, Measured]]:
    for name in timm.list_models():
        yield name, partial(_sized, _registry._model_to_module[name], timm.create_model, name)


def _torchvision() -> Iterator[tuple[str, Measured]]:
    for name in torchvision.models.list_models():
        if not any(part in name for part in LEFT_OUT):
            family = torchvision.models.get_model_builder(name).__module__.rpartition("models.")[2]
            yield name, partial(_sized, family, _bare, name)


def _transformers() -> Iterator[tuple[str, Measured]]:
    from .families import measured, types

    for name in types():
        yield name, partial(measured, name)


_SOURCES: dict[str, Callable[[], Iterator[tuple[str, Measured]]]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "transformers": _transformers,
}
"""Library -> its architectures' names, each with what measures one."""


def _sized(family: str, build: Build, name: str) -> tuple[str, int]:
    return family, _params(build, name)


def _bare(name: str) -> torch.nn.Module:
    from tsdistill.models.sources import catalog

    return catalog.build_empty(f"torchvision:{name}").model


class _Uninitialised(TorchFunctionMode):
    """Leaves out whatever sets values: only shapes are wanted, and values take most of a model's making."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__") and name != "requires_grad_":
            return args[0] if args else kwargs.get("tensor")
        return func(*args, **kwargs)


def _params(build: Build, name: str) -> int:
    warnings.simplefilter("ignore")
    try:
        with torch.device("meta"), _Uninitialised():
            return sum(parameter.numel() for parameter in build(name).parameters())
    except Exception:  # what an optional package is missing for, say
        return 0
