"""Sources of text: files, folders, the Hugging Face hub's data sets, arrays of tokens, Python objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from tsdistill.data.named_datasets import split_options
from tsdistill.data.numpy_files import read_npy
from tsdistill.data.sample_source import KeptItems, PrivateRandom
from tsdistill.data.text import documents
from tsdistill.data.text.documents import LINE_SUFFIXES, TEXT_SUFFIXES, Document, Fields
from tsdistill.data.text.text_spec import CAUSAL, CLASSES, FEATURES, MASKED, PAIRS, TextSpec
from tsdistill.data.text.text_tokenizer import TextTokenizer, open_tokenizer
from tsdistill.data.text.token_datasets import TokenRows, TokenStream, collected, rows_of
from tsdistill.data.text.token_layout import TokenLayout
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.sources.offline import quiet_downloads
from tsdistill.options.option_fields import written

IN_MEMORY = 2**24
"""Bytes of text that are tokenised before anything else is done, so that samples can be drawn at random; it
takes a few seconds. More than that is read as a stream, from its beginning."""

_RECORDS = re.compile(r"(.+\.(?:jsonl|ndjson)):([^:/\\]+)", re.IGNORECASE | re.DOTALL)
_FILES = (*TEXT_SUFFIXES, *LINE_SUFFIXES)


def is_text(data: Any) -> bool:
    """Whether the specification ``data`` names text by itself: a text file, or lines of JSON."""
    place = str(data)
    return _RECORDS.fullmatch(place) is not None or place.lower().endswith(_FILES)


def text_file(argument: str, spec: TextSpec) -> Dataset:
    """``FILE.txt``, ``FILE.jsonl[:FIELD]`` or a folder of such files.

    Raises:
        TsdistillError: there is none, it cannot be read, or it does not fit the model.
    """
    match = None if Path(argument).expanduser().exists() else _RECORDS.fullmatch(argument)
    place, stated = (match[1], match[2]) if match else (argument, None)
    path = Path(place).expanduser()
    fields = _fields(stated, spec)
    by_line = spec.task in (CLASSES, PAIRS)
    if not path.exists():
        raise TsdistillError(f"there is no file or folder {place}; name text that is there")
    files = documents.text_files(path) if path.is_dir() else [path]

    def read() -> Iterator[Document]:
        return documents.of_files(files, fields, by_line=by_line)

    small = sum(file.stat().st_size for file in files) <= IN_MEMORY
    return _of_documents(read, spec, str(path), small=small)


def hub_text(argument: str, spec: TextSpec) -> Dataset:
    """``hfds/NAME:FIELD[,split=...,name=...,streaming=true]``: a data set of the hub or in a folder.

    Raises:
        TsdistillError: the library is missing, there is no such data set, or no such field in it.
    """
    try:
        import datasets
    except ImportError as error:
        raise TsdistillError(
            f"hfds/{argument} needs the package datasets, which is not installed; pip install "
            "tsdistill[streams]"
        ) from error
    rest, options = split_options(argument)
    name, _, stated = rest.partition(":")
    split = options.pop("split", "test")
    config = options.pop("name", None)
    streaming = options.pop("streaming", "false").lower() == "true"
    if options:
        raise TsdistillError(
            f"hfds/{name} has no option {next(iter(options))!r}; there are split, name, streaming"
        )
    folder = Path(name).expanduser()
    try:
        with quiet_downloads():
            if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
                loaded: Any = datasets.load_from_disk(str(folder))
                loaded = loaded[split] if isinstance(loaded, Mapping) else loaded
            else:
                loaded = datasets.load_dataset(name, config, split=split, streaming=streaming)
    except Exception as error:  # the library raises whatever its readers do
        raise TsdistillError(
            f"cannot open the data hfds/{name}, split {split}: {cause_of(error)}; write "
            "hfds/NAME:FIELD,split=train"
        ) from error
    place = f"hfds/{name} ({split})"
    fields = _fields(stated or None, spec)
    small = getattr(getattr(loaded, "data", None), "nbytes", IN_MEMORY + 1) <= IN_MEMORY
    return _of_documents(lambda: documents.of_python(loaded, fields, place), spec, place, small=small)


def token_file(argument: str, spec: TextSpec) -> Dataset:
    """``FILE.npy``: token ids ``[tokens]`` or ``[samples, tokens]``, mapped from the file.

    Raises:
        TsdistillError: it cannot be read or holds no ids of the model's.
    """
    path = Path(argument).expanduser()
    if not path.exists():
        raise TsdistillError(f"there is no file {path}; name token ids that are there")
    return of_tokens(read_npy(path), spec, str(path))


def of_tokens(tokens: Any, spec: TextSpec, name: str) -> Dataset:
    """Token ids ``[tokens]``, divided into sequences, or ``[samples, tokens]``, taken as they are.

    Args:
        tokens: an array or tensor of whole numbers, negative where there is no token.
        spec: how the model reads text.
        name: what messages call them.

    Raises:
        TsdistillError: they are no ids, or fewer than one sequence.
    """
    array = tokens.detach().cpu().numpy() if isinstance(tokens, torch.Tensor) else np.asarray(tokens)
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2) or not array.size:
        raise TsdistillError(
            f"{name} has shape {array.shape} of {array.dtype}; the model reads token ids: whole numbers "
            "[tokens] or [samples, tokens]"
        )
    if spec.task == PAIRS:
        raise TsdistillError(f"{name}: the model reads pairs of texts; give a .jsonl with fields for both")
    if array.ndim == 1:
        if len(array) < spec.length:
            raise TsdistillError(
                f"{name} holds {len(array)} tokens, fewer than one sequence of {spec.length}; give more text "
                f"or a smaller {written('length')}"
            )
        array = array[: len(array) // spec.length * spec.length].reshape(-1, spec.length)
    elif spec.stated and array.shape[1] > spec.length:
        array = array[:, : spec.length]
    if spec.task == MASKED:
        layout = _layout(spec, open_tokenizer(spec.tokenizer), name)
    else:
        layout = TokenLayout(spec, name, spec.padding)
    return TokenRows(
        array, layout, f"sequences of {array.shape[1]} tokens of {name}; {layout.words}".rstrip("; ")
    )


def of_python(data: Any, spec: TextSpec) -> tuple[Dataset | None, Any]:
    """Texts, conversations, mappings with text, or token ids that a caller gives.

    Returns:
        The data set, ``None`` where ``data`` are something else; and ``data``, an iterator of which the first
        item has been looked at as a new one.

    Raises:
        TsdistillError: they do not fit the model.
    """
    if isinstance(data, (torch.Tensor, np.ndarray)):
        floating = (
            torch.is_floating_point(data) if isinstance(data, torch.Tensor) else data.dtype.kind not in "iu"
        )
        if floating or data.ndim > 2 or spec.task == PAIRS:
            return None, data
        return of_tokens(data, spec, "the tensor" if isinstance(data, torch.Tensor) else "the array"), data
    of_datasets = type(data).__module__.startswith("datasets.")
    other = isinstance(data, (Dataset, DataLoader, Mapping, bytes)) and not of_datasets
    if other or not isinstance(data, Iterable):
        return None, data
    random = PrivateRandom(0)
    iterator = random.step(data, start=True)
    try:
        first = random.step(iterator)
    except StopIteration:
        return None, data
    if isinstance(data, Iterator):
        data = chain([first], iterator)
    if not _is_document(first):
        return None, data
    if isinstance(data, Iterator):
        data = KeptItems(data)
    fields = _fields(None, spec)
    small = isinstance(data, (list, tuple))

    def read() -> Iterator[Document]:
        return documents.of_python(data, fields, "the data")

    return _of_documents(read, spec, "the texts", small=small), data


def _is_document(item: Any) -> bool:
    if isinstance(item, str):
        return True
    if isinstance(item, Mapping):
        return any(isinstance(value, str) for value in item.values()) or "messages" in item
    if isinstance(item, (list, tuple)) and item:
        return isinstance(item[0], str) or (isinstance(item[0], Mapping) and "role" in item[0])
    return False


def _of_documents(
    read: Callable[[], Iterator[Document]], spec: TextSpec, name: str, *, small: bool
) -> Dataset:
    tokenizer = open_tokenizer(spec.tokenizer)
    layout = _layout(spec, tokenizer, name)
    packed = spec.task in (CAUSAL, MASKED, FEATURES)
    what = f"sequences of {spec.length} tokens" if packed else f"texts of at most {spec.length} tokens"
    parts = (f"{what} of {name}", layout.words, f"tokenizer {tokenizer.name}")
    description = "; ".join(part for part in parts if part)

    def rows() -> Iterator[Any]:
        return rows_of(read(), tokenizer, spec, name)

    return collected(rows(), layout, description) if small else TokenStream(rows, layout, description)


def _layout(spec: TextSpec, tokenizer: TextTokenizer, name: str) -> TokenLayout:
    if spec.task == MASKED and tokenizer.mask is None:
        raise TsdistillError(
            f"the model tells hidden tokens and the tokenizer {tokenizer.name} has no mask; give the model's "
            f"own with {written('tokenizer')}"
        )
    padding = spec.padding if tokenizer.padding is None else tokenizer.padding
    return TokenLayout(spec, name, padding if padding < spec.vocabulary else 0, tokenizer.mask)


def _fields(stated: str | None, spec: TextSpec) -> Fields:
    """The fields that ``FIELD`` or ``FIELD,OTHER`` names."""
    text, _, other = (stated or "").partition(",")
    pairs, labelled = spec.task == PAIRS, spec.task == CLASSES
    if other and not (pairs or labelled):
        raise TsdistillError(f"the model reads one text, not two fields ({stated}); name one")
    return Fields(text or None, other or None, pairs, labelled)
