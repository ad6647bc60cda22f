"""Limits of an architecture that a file names, in proportion to the size of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules import module as hooks

from tsdistill.errors import TsdistillError
from tsdistill.models.sources import catalog
from tsdistill.models.sources.specs import parse
from tsdistill.options.option_fields import written

_MAX_OPTION = 2**16
"""Largest value of an option other than the number of classes (a width, a depth, a side in pixels): far
above what architectures take.
"""

_MAX_CLASSES = 2**20
"""Largest number of classes that a file may name: 48 times the 21,843 classes of ImageNet-21k."""

_FREE_NUMBERS = 2**26
"""Numbers that an architecture may have whatever the file holds: 256 MiB in single precision, which a small
file cannot do harm with.
"""

_MAX_TIMES_STORED = 64
"""Numbers that an architecture may have for each one that is stored: a model cut to an eighth of its widths
keeps 1/64 of its weights.
"""

_MAX_MODULES_PER_TENSOR = 20
"""Modules for each stored tensor: containers, activations, dropout and identities hold no tensors and
outnumber the layers that do.
"""

_FREE_MODULES = 5000
"""Modules that an architecture may have whatever the file holds."""

_MAX_MODULES = 200_000
"""Modules of a model in shards: a mixture of 60 layers with 256 experts of four modules has 70,000."""


def check_spec(spec: str, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse an architecture that a file names and that would take far more memory than the file holds.

    It is built on the ``meta`` device, and no further than the file justifies.

    Args:
        spec: the specification.
        tensors: the tensors in the file, by name.
        path: the file, for messages.

    Raises:
        TsdistillError: an option is huge, or the architecture cannot be built or is far too large.
    """
    _, options = parse(spec.partition(":")[2], spec)
    for key, value in options.items():
        if isinstance(value, (int, float)) and abs(value) > (
            _MAX_CLASSES if key == "num_classes" else _MAX_OPTION
        ):
            raise TsdistillError(f"{path}: damaged metadata: the architecture asks for {key}={value:.6g}")
    held = sum(t.numel() for t in tensors.values())
    with _counted(
        _MAX_TIMES_STORED * held + _FREE_NUMBERS, _MAX_MODULES_PER_TENSOR * len(tensors) + _FREE_MODULES
    ) as over:
        try:
            catalog.build_empty(spec)
        except TsdistillError as error:
            if not over:
                raise TsdistillError(
                    f"{path}: its metadata names an architecture that cannot be built: {error}"
                ) from error
    if over:
        raise TsdistillError(
            f"{path}: damaged metadata: {spec} has {over[0]}, the file {held} numbers in {len(tensors)} "
            f"tensors; name another by {written('arch')}"
        )


@contextmanager
def limited(held: int | None) -> Iterator[None]:
    """Stop building a model that is out of proportion to what is stored of it.

    Args:
        held: bytes of the weights; ``None`` where they are not known.

    Raises:
        TsdistillError: it is far larger.
    """
    if held is None:
        yield
        return
    with _counted(_MAX_TIMES_STORED * held + _FREE_NUMBERS, _MAX_MODULES):
        yield


@contextmanager
def _counted(most_numbers: int, most_modules: int) -> Iterator[list[str]]:
    """Stop building when there is too much; says of what."""
    over: list[str] = []
    count = {"parameters": 0, "modules": 0}

    def add(kind: str, number: int, most: int) -> None:
        count[kind] += number
        if count[kind] > most:
            over.append(f"more than {most} {kind}")
            raise TsdistillError(over[0])

    def tensor(_: Any, __: str, value: torch.Tensor | None) -> None:
        add("parameters", 0 if value is None else value.numel(), most_numbers)

    def module(_: Any, __: str, ___: Any) -> None:
        add("modules", 1, most_modules)

    handles = [
        hooks.register_module_parameter_registration_hook(tensor),
        hooks.register_module_buffer_registration_hook(tensor),
        hooks.register_module_module_registration_hook(module),
    ]
    try:
        yield over
    finally:
        for handle in handles:
            handle.remove()
