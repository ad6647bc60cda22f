"""Data of any form, opened as a stream of batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from tsdistill import plugins
from tsdistill.data.arrays import ArraySamples
from tsdistill.data.sample_reader import name_of
from tsdistill.data.sample_source import BatchSource, IndexedSource, IterableSource, SampleSource
from tsdistill.data.stream import Stream
from tsdistill.data.text.text_sources import is_text, of_python
from tsdistill.data.text.text_spec import TextSpec
from tsdistill.data.transforms import channel_figures, describe, is_image
from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec
from tsdistill.models.input_spec import override
from tsdistill.options.data_options import DataOptions
from tsdistill.options.old_names import grouped
from tsdistill.options.option_fields import check_seed, written

SYNTHETIC_SAMPLES = 512
"""Synthetic samples that are read when no number is given: 16 batches of the default size."""


@grouped(inputs=DataOptions)
def open_data(
    data: Any,
    spec: InputSpec | TextSpec | None = None,
    inputs: DataOptions | Mapping[str, Any] = DataOptions(),
    *,
    skip: int = 0,
    seed: int = 0,
    workers: int = 0,
    arguments: int = 1,
) -> Stream:
    """The samples of ``data`` as a model with inputs ``spec`` reads them.

    Args:
        data: ``None`` (synthetic: dead leaves for images, Gaussian values for all else); a specification or a
            path (``"DIR"``, ``"x.npz"``, ``"x.npy"``, ``"fashion-mnist:DIR"``, ``"torch/cifar10:DIR"``,
            ``"synthetic:pink"``, whatever a plugin registers); a tensor or array of samples; a
            ``DataLoader``; a torch ``Dataset``; an iterable of batches ``x`` or ``(x, y)``, with ``x`` in one
            of the forms of `tsdistill.data.batches.split_batch`. An iterator can be read only once, so its
            batches are kept. Of a model of text also ``"x.txt"``, ``"x.jsonl:FIELD"``, ``"hfds/NAME:FIELD"``,
            a folder of text, an iterable of texts or of conversations, and token ids (see
            `tsdistill.data.text.text_sources`).
        spec: how inputs look (of text what `tsdistill.text_spec` says); ``None`` takes Python data as they
            are.
        inputs: how many samples are read and in which batches, and what is otherwise with the inputs than
            ``spec`` says. ``samples`` are a random part by ``seed`` where samples can be asked for by index,
            else the first ones; batches that were given stay as they are.
        skip: leave out that many first. ``skip=N`` has nothing in common with ``samples=N`` of the same seed.
        seed: of the random part and of synthetic samples.
        workers: processes that read and decode.
        arguments: how many positional arguments the model takes at least; a batch that is a tuple of so many
            is these.

    Raises:
        TsdistillError: the data are not there, cannot be read or do not fit the model.
    """
    inputs = DataOptions.of(inputs)
    inputs.refuse("open_data", "augment", "example_input")
    samples, batch_size, strict = inputs.samples, inputs.batch_size, inputs.strict
    if skip < 0:
        raise TsdistillError(f"skip must be at least 0, not {skip}")
    check_seed(seed)
    spec = _stated(spec, inputs)
    if isinstance(spec, InputSpec) and is_image(spec):
        channel_figures(spec)
    dataset, data = dataset_of(data, spec)
    if isinstance(spec, TextSpec):
        batch_size = min(batch_size, spec.largest_batch or batch_size)
        spec = None
    if dataset is None:
        source: SampleSource = _batch_source(data, spec, seed, arguments)
        details = "used as they are"
        shape = None
    else:
        source = _dataset_source(dataset, spec, seed, workers, strict)
        pictures = getattr(dataset, "pictures", True)
        details = "" if spec is None else describe(spec, pictures=pictures)
        shape = None if spec is None or spec.transform is not None else tuple(spec.size)
    synthetic = bool(getattr(dataset, "synthetic", False))
    if data is None:
        details = f"no data were given; {details}"
    return Stream(
        source,
        details=details,
        synthetic=synthetic,
        labelled=getattr(dataset, "labelled", None),
        skip=skip,
        samples=samples if samples is not None or not synthetic else SYNTHETIC_SAMPLES,
        batch_size=batch_size,
        seed=seed,
        shape=shape,
    )


def _stated(spec: InputSpec | TextSpec | None, inputs: DataOptions) -> InputSpec | TextSpec | None:
    """``spec`` with what the user gave in its place."""
    if not isinstance(spec, TextSpec):
        return override(spec, inputs)
    if inputs.tokenizer is not None:
        spec = replace(spec, tokenizer=inputs.tokenizer)
    return spec if inputs.length is None else replace(spec, length=inputs.length, stated=True)


def dataset_of(data: Any, spec: InputSpec | TextSpec | None) -> tuple[Any, Any]:
    """A torch ``Dataset``, or ``None`` when ``data`` are batches; and ``data``, which is another iterator
    where its first item had to be looked at.

    Raises:
        TsdistillError: there is nothing of that name, or it does not fit the model.
    """
    if isinstance(spec, TextSpec) and data is not None and not isinstance(data, (str, os.PathLike)):
        dataset, data = of_python(data, spec)
        if dataset is not None:
            return dataset, data
        spec = None
    return _dataset_of(data, spec), data


def _dataset_of(data: Any, spec: InputSpec | TextSpec | None) -> Any:
    if data is None or isinstance(data, (str, os.PathLike)):
        if spec is None:
            raise TsdistillError(f"how inputs look is not known; say with {written('input_size')}")
        return _named("synthetic" if data is None else os.fspath(data), spec)
    if isinstance(data, (torch.Tensor, np.ndarray)):
        assert not isinstance(spec, TextSpec)
        return ArraySamples(data, None, spec, "the tensor" if isinstance(data, torch.Tensor) else "the array")
    return data if isinstance(data, Dataset) else None


def _named(text: str, spec: InputSpec | TextSpec) -> Dataset:
    path = Path(text).expanduser()
    if is_text(text):
        return plugins.get("data source", "text")(text, spec)
    if text and not path.exists():
        sources = plugins.items("data source")
        places = [text.find(mark) for mark in ":/" if mark in text]
        name = text[: min(places)] if places else text
        if name in sources and text[len(name) : len(name) + 1] in ("", ":", "/"):
            return sources[name](text[len(name) + 1 :], spec)
    if path.is_dir():
        return plugins.get("data source", "folder")(text, spec)
    if path.suffix.lower() in (".npz", ".npy"):
        return plugins.get("data source", "array")(text, spec)
    if path.suffix.lower() == ".tar" and path.exists():
        return plugins.get("data source", "folder")(text, spec)
    if path.exists() and isinstance(spec, TextSpec):
        raise TsdistillError(
            f"{text} is neither .txt, .jsonl nor .npy, nor a folder of text; give one of these"
        )
    if path.exists():
        raise TsdistillError(
            f"{text} is neither a folder of images nor .npz, .npy or .tar; give one of these as data"
        )
    known = ", ".join(plugins.names("data source"))
    raise TsdistillError(
        f"there is no folder or file {text!r} and no data source of that name (known: {known})"
    )


def _dataset_source(
    dataset: Any, spec: InputSpec | None, seed: int, workers: int, strict: bool
) -> SampleSource:
    name = name_of(dataset)
    if isinstance(dataset, IterableDataset):
        return IterableSource(dataset, spec, name, seed, strict)
    return IndexedSource(dataset, spec, name, seed, workers, strict)


def _batch_source(data: Any, spec: InputSpec | None, seed: int, arguments: int) -> BatchSource:
    if not isinstance(data, Iterable) or isinstance(data, (bytes, dict)):
        raise TsdistillError(
            f"a {type(data).__name__} is no data; give a specification, a tensor, a DataLoader or batches"
        )
    if isinstance(data, (list, tuple)) and not data:
        raise TsdistillError("the data are an empty sequence; give at least one batch")
    name = "samples of the DataLoader" if isinstance(data, DataLoader) else "samples of the given batches"
    return BatchSource(data, spec, name, seed, arguments)


def synthetic_samples(dataset: Dataset, samples: int | None) -> int | None:
    """The number of samples to read: `SYNTHETIC_SAMPLES` by default of a synthetic data set, which has no
    end."""
    return samples if samples is not None or not getattr(dataset, "synthetic", False) else SYNTHETIC_SAMPLES
