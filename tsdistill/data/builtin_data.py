"""The built-in data sources, registered as a plugin's are.

A data source is a callable ``source(argument, spec) -> Dataset``: ``argument`` is what follows ``NAME:`` in a
specification, ``spec`` the model's ``InputSpec``. The data set (map style, or iterable) yields ``x`` or ``(x,
y)``, where ``x`` is a PIL image, to which the specification's transform is then applied, or a float tensor of
shape ``spec.size``, used as it is, and ``y`` a class number or ``None``. It may carry ``description`` (text),
``labelled`` (bool; found from the first sample otherwise), ``pictures`` (bool, true unless said: normalised
images, not values used as they are) and ``synthetic`` (bool): a map-style data set that is synthetic answers
every index and needs no length.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from torch.utils.data import Dataset

from tsdistill.data import arrays, image_folder, named_datasets, synthetic
from tsdistill.models.info import InputSpec
from tsdistill.plugins import hookimpl


class DataSource(Protocol):
    """What ``register_data_sources`` takes."""

    def __call__(self, argument: str, spec: InputSpec, /) -> Dataset:
        """The data set that ``argument`` names, for a model that reads ``spec``."""


def open_folder(argument: str, spec: InputSpec) -> Dataset:
    """``folder:DIR``, or just ``DIR``: images in a folder; a ``.tar`` of images is read by timm."""
    if Path(argument).suffix == ".tar":
        return named_datasets.timm_dataset(f":{argument}", spec)
    return image_folder.ImageFolder(argument)


def _torchvision(argument: str, _spec: InputSpec, *, name: str) -> Dataset:
    return named_datasets.torchvision_dataset(name, argument)


def _timm(argument: str, spec: InputSpec, *, name: str) -> Dataset:
    return named_datasets.timm_dataset(f"{name}/{argument}", spec)


@hookimpl
def register_data_sources(register: Callable[[str, DataSource], None]) -> None:
    """Register folders, arrays, synthetic samples, torchvision's and timm's names."""
    register("folder", open_folder)
    register("array", arrays.read_arrays)
    register("synthetic", synthetic.SyntheticSamples)
    for name in named_datasets.NAMES:
        register(name, partial(_torchvision, name=name))
    for name in named_datasets.TIMM_NAMES:
        register(name, partial(_timm, name=name))
