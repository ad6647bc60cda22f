"""Options under which an architecture has the shapes of a file: classes, input channels, image size.

Every guess is checked by building the architecture with it on the ``meta`` device, so a guess may be wrong.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from tsdistill.errors import TsdistillError
from tsdistill.models.files.stored_weights import Shapes, shapes_of, state
from tsdistill.models.recognition.architecture_index import names_hash, shipped
from tsdistill.models.sources import catalog
from tsdistill.models.sources.specs import OptionValue, join, parse

_INDEXED_OPTIONS = ("aux_logits", "transform_input", "aux_loss")
_SIDE_MULTIPLES = (32, 16, 14, 8, 4)
"""Pixels of which an image's side is taken to be a multiple: strides of networks and sides of patches, the
most common ones first.
"""

_MAX_CLASSES = 2**24
"""Largest number of classes that is inferred; what is larger is a damaged file or another layer."""


@dataclass(frozen=True)
class Adapted:
    """An architecture with the options that a file's shapes ask for.

    Attributes:
        spec: specification with them.
        changed: the options that were added, as ``key=value``.
        stem: name of the weight of a convolution whose input channels differ, for which there is no option.
        channels: its input channels in the file.
    """

    spec: str
    changed: tuple[str, ...] = ()
    stem: str | None = None
    channels: int = 0


@dataclass(frozen=True)
class _Empty:
    shapes: Shapes
    input: tuple[int, ...]
    keys: frozenset[str]


def adapt(spec: str, shapes: Shapes) -> Adapted | None:
    """The options of ``spec`` under which it has exactly ``shapes``; those it names itself stay.

    ``None`` when there are none. Only for architectures of the catalogs.

    Raises:
        TsdistillError: ``spec`` itself cannot be built.
    """
    source, _, rest = spec.partition(":")
    name, stated = parse(rest, spec)
    options = dict(stated)
    classes = _classes(source, name, options, shapes)
    if classes is not None:
        options["num_classes"] = classes
    empty = _empty(join(source, name, options))
    if set(empty.shapes) != set(shapes):
        return None
    stem = _stem(empty.shapes, shapes)
    if stem is not None and "in_chans" not in stated:
        channels = shapes[stem][1] * empty.input[0] // empty.shapes[stem][1]
        candidate = _built(source, name, {**options, "in_chans": channels})
        if candidate is not None and candidate.shapes[stem] == shapes[stem]:
            options["in_chans"], empty, stem = channels, candidate, None
    for sizes in _size_options(empty, shapes, stated):
        candidate = _built(source, name, {**options, **sizes})
        if candidate is not None and _differing(candidate.shapes, shapes) <= ({stem} if stem else set()):
            empty = candidate
            options |= sizes
            break
    off = _differing(empty.shapes, shapes)
    if off and off != {stem}:
        return None
    changed = tuple(f"{key}={value}" for key, value in sorted(options.items()) if stated.get(key) != value)
    return Adapted(
        join(source, name, options), changed, stem if off else None, shapes[stem][1] if off and stem else 0
    )


def similar(shapes: Shapes, most: int) -> list[str]:
    """Specifications with the same names and mostly the same shapes, the most alike first."""
    names = shipped().named_alike(shapes)
    scores = {entry.spec: score for score, entry in shipped().nearest(shapes, len(shipped().entries))}
    best = max((scores.get(spec, 0.0) for spec in names), default=0.0)
    alike = [spec for spec in names if scores.get(spec, 0.0) >= best / 2]
    return sorted(alike, key=lambda spec: -scores.get(spec, 0.0))[:most]


def _classes(source: str, name: str, options: dict[str, OptionValue], shapes: Shapes) -> int | None:
    """How many classes the shapes have, when that is not what ``options`` give; ``None`` to leave it."""
    if "num_classes" in options:
        return None
    base = {key: options[key] for key in _INDEXED_OPTIONS if key in options}
    for text in (join(source, name.partition(".")[0], base), f"{source}:{name.partition('.')[0]}"):
        for entry in shipped().of(text):
            if entry.classes is None:
                continue
            if not entry.places and entry.names == names_hash(shapes):
                return None if entry.classes == 0 else 0
            count = entry.classes_in(shapes)
            if entry.places and count is not None and count != entry.classes and count < _MAX_CLASSES:
                return count
    return None


def _stem(built: Shapes, stored: Shapes) -> str | None:
    """The one convolution's weight that differs in its input channels alone."""
    names = [
        name
        for name, shape in built.items()
        if len(shape) >= 4
        and len(shape) == len(stored[name])
        and shape[1] != stored[name][1]
        and (shape[0], *shape[2:]) == (stored[name][0], *stored[name][2:])
    ]
    return names[0] if len(names) == 1 and stored[names[0]][1] > 0 else None


def _size_options(
    empty: _Empty, shapes: Shapes, stated: dict[str, OptionValue]
) -> Iterator[Mapping[str, OptionValue]]:
    """Image and window sizes to try, the likeliest first."""
    off = [n for n in empty.shapes if empty.shapes[n] != shapes[n] and n != _stem(empty.shapes, shapes)]
    names: tuple[str, ...] = ("img_size", "image_size")
    key = next((k for k in names if k in empty.keys and k not in stated), None)
    if not off or (key is None and "window_size" not in empty.keys):
        return
    built, stored = empty.shapes[off[0]], shapes[off[0]]
    if not math.prod(built) or not math.prod(stored):
        return
    side, ratio = empty.input[-1], math.prod(stored) / math.prod(built)
    sides = list(
        dict.fromkeys(round(side * r / s) * s for r in (math.sqrt(ratio), ratio) for s in _SIDE_MULTIPLES)
    )
    if key is not None:
        yield from ({key: value} for value in sides if value > 0)
    if "window_size" not in empty.keys or "window_size" in stated:
        return
    rows = max((rows for name in off for rows in shapes[name][:1]), default=0)
    window = (math.isqrt(rows) + 1) // 2
    if window and (2 * window - 1) ** 2 == rows:
        yield {"window_size": window}
        if key is not None:
            yield from ({key: 32 * window * times, "window_size": window} for times in (1, 2))


def _differing(built: Shapes, stored: Shapes) -> set[str]:
    return {name for name in {**built, **stored} if built.get(name) != stored.get(name)}


def _built(source: str, name: str, options: dict[str, OptionValue]) -> _Empty | None:
    try:
        return _empty(join(source, name, options))
    except TsdistillError:
        return None


@lru_cache(maxsize=64)
def _empty(spec: str) -> _Empty:
    built = catalog.build_empty(spec)
    keys = frozenset(inspect.signature(type(built.model).__init__).parameters)
    size = built.input.size if built.input is not None else (3, 224, 224)
    return _Empty(shapes_of(state(built.model)), size, keys)
