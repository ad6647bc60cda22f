"""The built-in data sources, registered as a plugin's are.

A data source is a callable ``source(argument, spec) -> Dataset``: ``argument`` is what follows ``NAME:`` in a
specification, ``spec`` the model's ``InputSpec``. The data set (map style, or iterable) yields ``x`` or ``(x,
y)``, where ``x`` is a PIL image, to which the specification's transform is then applied, or a float tensor of
shape ``spec.size``, used as it is, and ``y`` a class number or ``None``. Of a model of text ``spec`` is a
`tsdistill.data.text.text_spec.TextSpec`, and ``x`` what the model takes (a mapping of tensors without a batch
dimension). It may carry ``description`` (text),
``labelled`` (bool; found from the first sample otherwise), ``pictures`` (bool, true unless said: normalised
images, not values used as they are) and ``synthetic`` (bool): a map-style data set that is synthetic answers
every index and needs no length.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from torch.utils.data import Dataset

from tsdistill.data import arrays, image_folder, named_datasets, synthetic
from tsdistill.data.text import text_sources
from tsdistill.data.text.text_spec import TextSpec
from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec
from tsdistill.plugins import hookimpl


class DataSource(Protocol):
    """What ``register_data_sources`` takes."""

    def __call__(self, argument: str, spec: Any, /) -> Dataset:
        """The data set that ``argument`` names, for a model that reads ``spec``: an ``InputSpec``, or of text
        a ``TextSpec``."""


def open_folder(argument: str, spec: InputSpec | TextSpec) -> Dataset:
    """``folder:DIR``, or just ``DIR``: images in a folder, or text; a ``.tar`` of images is read by timm."""
    if isinstance(spec, TextSpec):
        return text_sources.text_file(argument, spec)
    if Path(argument).suffix == ".tar":
        return named_datasets.timm_dataset(f":{argument}", spec)
    return image_folder.ImageFolder(argument)


def open_array(argument: str, spec: InputSpec | TextSpec) -> Dataset:
    """``array:FILE``, or just ``FILE.npy`` or ``FILE.npz``: samples, or token ids."""
    if isinstance(spec, TextSpec):
        return text_sources.token_file(argument, spec)
    return arrays.read_arrays(argument, spec)


def open_text(argument: str, spec: InputSpec | TextSpec) -> Dataset:
    """``text:PLACE``, or just ``PLACE``: a text file, lines of JSON, or a folder of such files.

    Raises:
        TsdistillError: the model reads no text, or the text cannot be read.
    """
    if not isinstance(spec, TextSpec):
        raise TsdistillError(
            f"{argument} is text and the model reads none; give data that it reads, or a tokenizer if it does"
        )
    return text_sources.text_file(argument, spec)


def _torchvision(argument: str, spec: InputSpec | TextSpec, *, name: str) -> Dataset:
    _check_images(name, spec)
    return named_datasets.torchvision_dataset(name, argument)


def _timm(argument: str, spec: InputSpec | TextSpec, *, name: str) -> Dataset:
    if isinstance(spec, TextSpec) and name == "hfds":
        return text_sources.hub_text(argument, spec)
    return named_datasets.timm_dataset(f"{name}/{argument}", _check_images(name, spec))


def _synthetic(argument: str, spec: InputSpec | TextSpec) -> Dataset:
    return synthetic.SyntheticSamples(argument, _check_images("synthetic", spec))


def _check_images(name: str, spec: InputSpec | TextSpec) -> InputSpec:
    if isinstance(spec, TextSpec):
        raise TsdistillError(
            f"the model reads text and {name} holds none; give FILE.txt, FILE.jsonl:FIELD, TOKENS.npy, "
            "hfds/NAME:FIELD or a folder of text"
        )
    return spec


@hookimpl
def register_data_sources(register: Callable[[str, DataSource], None]) -> None:
    """Register folders, arrays, text, synthetic samples, torchvision's and timm's names."""
    register("folder", open_folder)
    register("array", open_array)
    register("text", open_text)
    register("synthetic", _synthetic)
    for name in named_datasets.NAMES:
        register(name, partial(_torchvision, name=name))
    for name in named_datasets.TIMM_NAMES:
        register(name, partial(_timm, name=name))
