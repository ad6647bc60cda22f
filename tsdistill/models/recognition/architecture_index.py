"""The shipped index of architectures: hashes of names and shapes, and sketches to find the nearest.

An entry is found by the hash of its tensors' names, then checked by the hash of its shapes in which the
number of classes is left open. Counters of batch norms are left aside throughout. Sketches are bottom-k
samples of hashed features (Cohen & Kaplan, "Summarizing data using bottom-k sketches", 2007): the share of
common members estimates how many tensors two architectures have in common.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Any

from tsdistill.models.files.stored_weights import Shapes

FORMAT = 1
"""Version of the index file."""

SKETCH = 16
"""Hashes in a sketch. The share of common features is estimated with a standard error of at most sqrt(0.25 /
16) = 0.13, enough to order architectures, and a sketch takes 64 bytes.
"""

Place = tuple[str, int, int]
"""Where the number of classes shows: name of a tensor, a dimension, and how many rows there a class has."""


@dataclass(frozen=True)
class Entry:
    """One architecture.

    Attributes:
        spec: specification without the number of classes.
        classes: how many classes ``spec`` builds by default; ``None`` when it does not classify.
        places: where the number of classes shows; empty for the architecture without a classifier.
        names: hash of the names.
        shapes: hash of names and shapes, with the number of classes left open.
        named: sketch of names with shapes; empty for entries without a classifier.
        unnamed: sketch of shapes alone; likewise.
    """

    spec: str
    classes: int | None
    places: tuple[Place, ...]
    names: str
    shapes: str
    named: frozenset[int] = frozenset()
    unnamed: frozenset[int] = frozenset()

    def classes_in(self, shapes: Shapes) -> int | None:
        """The number of classes that ``shapes`` have, if all places agree; 0 without a classifier."""
        if not self.places:
            return 0
        counts = set()
        for name, dim, rows in self.places:
            if name not in shapes or dim >= len(shapes[name]) or shapes[name][dim] % rows:
                return None
            counts.add(shapes[name][dim] // rows)
        return counts.pop() if len(counts) == 1 else None


@dataclass(frozen=True)
class Index:
    """All entries, by the hash of their names.

    Attributes:
        timm: version of timm that it was built with.
        torchvision: likewise of torchvision.
        entries: the architectures.
    """

    timm: str
    torchvision: str
    entries: tuple[Entry, ...]

    def matches(self, shapes: Shapes) -> list[tuple[Entry, int]]:
        """The entries with exactly these names and shapes, each with the number of classes found."""
        names = names_hash(shapes)
        matching = []
        for entry in self.entries:
            if entry.names != names or (classes := entry.classes_in(shapes)) is None:
                continue
            if shapes_hash(shapes, entry.places) == entry.shapes:
                matching.append((entry, classes))
        return matching

    def of(self, spec: str) -> list[Entry]:
        """The entries of an architecture: with a classifier, and without."""
        return [entry for entry in self.entries if entry.spec == spec]

    def named_alike(self, shapes: Shapes) -> list[str]:
        """Specifications of all architectures with exactly these names, whatever their shapes."""
        names = names_hash(shapes)
        return list(dict.fromkeys(entry.spec for entry in self.entries if entry.names == names))

    def nearest(self, shapes: Shapes, count: int, *, named: bool = True) -> list[tuple[float, Entry]]:
        """The entries that have most in common with ``shapes``, best first, with an estimate of the share.

        With ``named`` false only the shapes count, not what the tensors are called.

        Args:
            shapes: shapes by name.
            count: the most entries that are returned.
            named: compare names with shapes; otherwise shapes alone.
        """
        own = sketch(named_features(shapes) if named else unnamed_features(shapes))
        scored = [
            (_common(own, entry.named if named else entry.unnamed), entry)
            for entry in self.entries
            if entry.named
        ]
        scored.sort(
            key=lambda item: (-item[0], not item[1].spec.startswith("timm:"), len(item[1].spec), item[1].spec)
        )
        return scored[:count]


@cache
def shipped() -> Index:
    """The index that comes with the package."""
    return decode(files("tsdistill.models.recognition").joinpath("index.json.gz").read_bytes())


def make_entry(spec: str, classes: int | None, probe: int | None, shapes: Shapes) -> Entry:
    """The entry of an architecture built with ``probe`` classes (a large prime; ``None``: as it is).

    Args:
        spec: specification without a number of classes.
        classes: how many classes it builds by default; ``None`` when it does not classify.
        probe: the number of classes that it was built with, a large prime, which shows where the number is
            found; ``None`` when it was built as it is.
        shapes: shapes of its tensors by name.
    """
    places: list[Place] = []
    if probe is not None:
        for name in sorted(shapes):
            places += [(name, dim, n // probe) for dim, n in enumerate(shapes[name]) if n and n % probe == 0]
    open_shapes = _opened(shapes, places)
    return Entry(
        spec=spec,
        classes=classes,
        places=tuple(places),
        names=names_hash(shapes),
        shapes=shapes_hash(shapes, places),
        named=sketch(named_features(open_shapes)),
        unnamed=sketch(unnamed_features(open_shapes)),
    )


def encode(index: Index) -> bytes:
    """The index as compressed JSON, the same bytes for the same index."""
    kinds = sorted({entry.places for entry in index.entries})
    numbers = {places: number for number, places in enumerate(kinds)}
    rows = [
        [e.spec, e.classes, numbers[e.places], e.names, e.shapes, _packed(e.named), _packed(e.unnamed)]
        for e in index.entries
    ]
    whole = {
        "format": FORMAT,
        "timm": index.timm,
        "torchvision": index.torchvision,
        "places": kinds,
        "entries": rows,
    }
    return gzip.compress(json.dumps(whole, separators=(",", ":")).encode(), 9, mtime=0)


def decode(data: bytes) -> Index:
    """The inverse of `encode`."""
    whole: dict[str, Any] = json.loads(gzip.decompress(data))
    kinds = [tuple((name, dim, rows) for name, dim, rows in places) for places in whole["places"]]
    entries = tuple(
        Entry(spec, classes, kinds[kind], names, shapes, _unpacked(named), _unpacked(unnamed))
        for spec, classes, kind, names, shapes, named, unnamed in whole["entries"]
    )
    return Index(whole["timm"], whole["torchvision"], entries)


def names_hash(shapes: Shapes) -> str:
    """Hash of the set of names."""
    return _hash("\n".join(sorted(shapes)), 8)


def shapes_hash(shapes: Shapes, places: Iterable[Place]) -> str:
    """Hash of names and shapes, with the number of classes left open at ``places``."""
    opened = _opened(shapes, places)
    return _hash("\n".join(f"{name}{list(opened[name])}" for name in sorted(opened)), 8)


def named_features(shapes: Shapes) -> list[str]:
    """One text a tensor, of its name and shape."""
    return [f"{name}{list(shape)}" for name, shape in shapes.items()]


def unnamed_features(shapes: Shapes) -> list[str]:
    """One text a tensor, of its shape and how many tensors had that shape before."""
    seen: Counter[tuple[int, ...]] = Counter()
    features = []
    for shape in shapes.values():
        features.append(f"{list(shape)}#{seen[tuple(shape)]}")
        seen[tuple(shape)] += 1
    return features


def sketch(features: Iterable[str]) -> frozenset[int]:
    """The ``SKETCH`` smallest 32-bit hashes of the features."""
    hashes = {int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") for text in features}
    return frozenset(sorted(hashes)[:SKETCH])


def _common(one: frozenset[int], other: frozenset[int]) -> float:
    smallest = sorted(one | other)[:SKETCH]
    both = one & other
    return sum(value in both for value in smallest) / max(len(smallest), 1)


def _opened(shapes: Shapes, places: Iterable[Place]) -> dict[str, tuple[int, ...]]:
    opened = {name: tuple(shape) for name, shape in shapes.items()}
    for name, dim, rows in places:
        shape = opened[name]
        opened[name] = (*shape[:dim], -rows, *shape[dim + 1 :])
    return opened


def _hash(text: str, size: int) -> str:
    return base64.b64encode(blake2b(text.encode(), digest_size=size).digest()).decode().rstrip("=")


def _packed(values: frozenset[int]) -> str:
    return base64.b64encode(b"".join(v.to_bytes(4, "big") for v in sorted(values))).decode().rstrip("=")


def _unpacked(text: str) -> frozenset[int]:
    data = base64.b64decode(text + "=" * (-len(text) % 4))
    return frozenset(int.from_bytes(data[i : i + 4], "big") for i in range(0, len(data), 4))
