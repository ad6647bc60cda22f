"""Example inputs: read from a file or made by the user's own function, and samples that look like one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch.utils.data import Dataset

from tsdistill.data.numpy_files import native, read_npy, read_npz
from tsdistill.errors import TsdistillError
from tsdistill.models.files import torch_save
from tsdistill.models.sources import python_code
from tsdistill.options.option_fields import written
from tsdistill.runtime.nests import as_tensors, mapped, tensors
from tsdistill.untrusted import check_regular, read_guard

SUFFIXES = (".pt", ".pth", ".npy", ".npz", ".safetensors")


def read_example(place: str) -> Any:
    """An example input of batch 1: a tensor, a tuple of arguments or a mapping of keyword arguments.

    Args:
        place: a file of ``torch.save`` (read without unpickling objects), ``.npy``, ``.npz`` or
            ``.safetensors`` (arrays by the names of arguments), or a function ``path/to/file.py:function`` or
            ``package.module:function`` of the user's own that returns one.

    Raises:
        TsdistillError: it is not there, cannot be read, or holds anything but tensors.
    """
    path = Path(place).expanduser()
    if not path.exists() and ":" in place:
        return _checked(python_code.call(place, "an example input"), place)
    if not path.is_file():
        raise TsdistillError(
            f"{written('example_input')} {place}: there is no such file; give {', '.join(SUFFIXES)} or "
            "file.py:function"
        )
    if path.suffix.lower() not in SUFFIXES:
        raise TsdistillError(f"{written('example_input')} {place}: a file ends in {', '.join(SUFFIXES)}")
    return _checked(_read(path, f"{written('example_input')} {place}"), place)


def _read(path: Path, what: str) -> Any:
    kind = path.suffix.lower()
    check_regular(path)
    if kind == ".npy":
        return np.array(native(read_npy(path)))
    if kind == ".npz":
        return read_npz(path)
    with read_guard(what, "save tensors, or a tuple or dict of them", SafetensorError):
        return safetensors.torch.load_file(path) if kind == ".safetensors" else torch_save.load(path)


def _checked(values: Any, place: str) -> Any:
    with read_guard(f"{written('example_input')} {place}", "give plain numeric arrays"):
        example = mapped(as_tensors(values), torch.Tensor.detach)
    if next(iter(tensors(example)), None) is None:
        raise TsdistillError(
            f"{written('example_input')} {place} holds a {type(values).__name__} without tensors; give a "
            "tensor, a tuple of arguments or a dict of keyword arguments"
        )
    return {str(name): value for name, value in example.items()} if isinstance(example, dict) else example


class LikeExample(Dataset):
    """Endless made-up samples in the shapes and types of an example of batch 1.

    Numbers are Gaussian with its mean and spread, whole numbers are drawn from those that it holds.

    Args:
        example: a tensor or a mapping of tensors by keyword; other entries stay as they are.
    """

    synthetic = True
    labelled = False
    pictures = False
    description = "synthetic samples like the example input"

    def __init__(self, example: Any) -> None:
        self._example = example

    @staticmethod
    def serves(example: Any) -> bool:
        """Whether samples like ``example`` can be drawn: a tensor or a flat mapping of them, batch 1."""
        values = list(example.values()) if isinstance(example, Mapping) else [example]
        return all(isinstance(v, torch.Tensor) and v.ndim > 0 and len(v) == 1 for v in values)

    def __getitem__(self, index: int) -> Any:
        generator = torch.Generator().manual_seed(index % 2**63)
        if isinstance(self._example, Mapping):
            return {name: _like(value[0], generator) for name, value in self._example.items()}
        return _like(self._example[0], generator)


def _like(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    x = x.detach().cpu()
    if x.is_floating_point():
        mean, spread = float(x.double().mean()), float(x.double().std(unbiased=False)) or 1.0
        return (mean + spread * torch.randn(x.shape, generator=generator)).to(x.dtype)
    if x.dtype == torch.bool or x.is_complex() or not x.ndim:
        return x
    values = x.unique()
    return values[torch.randint(len(values), x.shape, generator=generator)]
