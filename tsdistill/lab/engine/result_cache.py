"""Finished parts of an experiment, in files from which a stopped run resumes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from tsdistill.files import atomic_file, made_folder
from tsdistill.lab.experiment import Context
from tsdistill.models.files.tensor_file import write_tensors


def cached(folder: Path | None, name: str, key: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """The result of ``make``, read from its file if there is one for the same key.

    Args:
        folder: folder of the files, created if needed; ``None``: no file is read or written.
        name: start of the file's name.
        key: all values that the result depends on; files of other keys are not touched.
        make: returns a value that JSON can hold.

    Raises:
        TsdistillError: a file cannot be written.
    """
    if folder is None:
        return make()
    path = _path(folder, name, key, "json")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["key"] == _plain(key):
            return stored["value"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    made_folder(folder)
    value = make()
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps({"key": key, "value": value}), encoding="utf-8")
    return value


def sweep(
    context: Context,
    name: str,
    key: Mapping[str, Any],
    cells: Sequence[Mapping[str, int]],
    make: Callable[..., Any],
    at: Sequence[int] = (0,),
) -> list[Any]:
    """The result of each cell of a sweep, stored as `cached` does.

    Args:
        context: of the run; its progress callback is called as cells are finished.
        name: start of the files' names; the values of the cell follow.
        key: all values that results depend on besides those of the cell.
        cells: values by name.
        make: called with a progress callback, which takes the steps ``at`` as they are done, and with the
            values of the cell as keywords.
        at: steps of one cell.

    Returns:
        what ``make`` returned for each cell, in their order.
    """
    results = []
    for number, cell in enumerate(cells):

        def tell(step: int, number: int = number) -> None:
            context.tell("students", number * len(at) + at.index(step) + 1, len(at) * len(cells))

        sizes = "-".join(f"{value}x" if each == "over" else str(value) for each, value in cell.items())
        trained = partial(make, tell, **cell)
        results.append(cached(context.keep, f"{name}-{sizes}", {**key, **cell}, trained))
        tell(at[-1])
    return results


def cached_tensors(
    folder: Path | None, name: str, key: Mapping[str, Any], make: Callable[[], tuple[dict[str, Tensor], Any]]
) -> tuple[dict[str, Tensor], Any]:
    """As `cached`, for named tensors and a value that JSON can hold.

    Raises:
        TsdistillError: a file cannot be written.
    """
    if folder is None:
        return make()
    path = _path(folder, name, key, "safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if json.loads(metadata["key"]) == _plain(key):
                return {each: file.get_tensor(each) for each in file.keys()}, json.loads(metadata["value"])  # noqa: SIM118
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        pass
    made_folder(folder)
    tensors, value = make()
    with atomic_file(path, SafetensorError) as temporary:
        whole = {each: tensor.contiguous() for each, tensor in tensors.items()}
        write_tensors(temporary, whole, {"key": json.dumps(key), "value": json.dumps(value)})
    return tensors, value


def _path(folder: Path, name: str, key: Mapping[str, Any], suffix: str) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    return folder / f"{name}-{digest}.{suffix}"


def _plain(key: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(key))
