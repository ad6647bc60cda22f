"""Values as Python source."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from tsdistill.errors import TsdistillError


def quoted(text: str) -> str:
    """``text`` in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def plain(value: Any) -> str:
    """Numbers, texts, ``None`` and tuples, lists and dicts of them."""
    if isinstance(value, str):
        return quoted(value)
    return repr(value) if (nest := _nest(value, plain)) is None else nest


def figures(values: Sequence[float]) -> str:
    """A tuple of numbers, each as short as it goes."""
    return plain(tuple(float(f"{value:.9g}") for value in values))


def table(name: str, rows: Iterable[tuple[str, Any]]) -> list[str]:
    """The lines of a dict of that name, one a row."""
    return [f"{name} = {{", *(f"    {quoted(key)}: {plain(value)}," for key, value in rows), "}"]


def arguments(options: Mapping[str, Any]) -> str:
    """Keyword arguments of a call, each behind a comma."""
    return "".join(f", {key}={plain(value)}" for key, value in options.items())


def drawn(value: Any) -> str:
    """Source that makes a value like ``value``, its tensors random, from a ``generator``.

    Raises:
        TsdistillError: there is something within that is neither a tensor nor plain data.
    """
    if isinstance(value, torch.Tensor):
        return _random(value)
    if (nest := _nest(value, drawn)) is not None:
        return nest
    if value is None or isinstance(value, bool | int | float | str):
        return plain(value)
    raise TsdistillError(
        f"the example input holds a {type(value).__name__}, which has no form in Python source; give "
        "tensors, numbers and texts"
    )


def _nest(value: Any, written: Callable[[Any], str]) -> str | None:
    """A dict, tuple or list whose entries ``written`` writes; ``None`` for any other value."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{quoted(key)}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return f"({', '.join(map(written, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    return None


def _random(tensor: torch.Tensor) -> str:
    shape = plain(tuple(tensor.shape))
    dtype = "" if tensor.dtype == torch.float32 else f", dtype={tensor.dtype}"
    if tensor.is_floating_point() or tensor.is_complex():
        images = not tensor.is_complex() and tensor.numel() and tensor.min() >= 0 and tensor.max() <= 1
        return f"torch.{'rand' if images else 'randn'}({shape}, generator=generator{dtype})"
    if not tensor.numel():
        return f"torch.zeros({shape}{dtype})"
    low, high = int(tensor.min()), int(tensor.max())
    if tensor.dtype == torch.bool:
        return f"torch.randint(0, 2, {shape}, generator=generator).bool()"
    return f"torch.randint({low}, {high + 1}, {shape}, generator=generator{dtype})"
