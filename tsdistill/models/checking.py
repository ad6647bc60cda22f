"""Checking plain data out of files, field by field."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tsdistill.errors import TsdistillError
from tsdistill.models.info import Attribute, InputSpec
from tsdistill.models.inputs import INTERPOLATIONS

LARGEST = 2**31 - 1
LARGEST_INPUT = 2**26
LONGEST_TEXT = 512
LONGEST_SPEC = 2**15
_CROPS = (0.05, 20.0)


class Checker:
    """Checks values that came out of ``path``; each method raises `TsdistillError` naming the field."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def error(self, what: str) -> TsdistillError:
        """An error about one field."""
        return TsdistillError(f"{self.path}: damaged metadata: {what}; save the model again")

    def mapping(self, value: Any, name: str) -> dict[str, Any]:
        """A mapping with texts as keys."""
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.error(f"{name} is not a mapping")
        return value

    def sequence(self, value: Any, name: str) -> list[Any]:
        """A list."""
        if not isinstance(value, list):
            raise self.error(f"{name!r} is not a list")
        return value

    def text(self, value: Any, name: str, longest: int = LONGEST_TEXT) -> str:
        """A printable text that is not empty."""
        if not isinstance(value, str) or not value or not value.isprintable() or len(value) > longest:
            raise self.error(f"{name!r} is not a text")
        return value

    def integer(self, value: Any, name: str) -> int:
        """An ordinary whole number."""
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > LARGEST:
            raise self.error(f"{name!r} is not an ordinary whole number")
        return value

    def ints(self, value: Any, name: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        return tuple(self.integer(item, name) for item in self.sequence(value, name))

    def number(self, value: Any, name: str) -> float:
        """An ordinary number."""
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < LARGEST:
            raise self.error(f"{name!r} is not an ordinary number")
        return float(value)

    def attribute(self, item: Any) -> Attribute:
        """A changed shape constant."""
        if not isinstance(item, list) or len(item) != 3 or not isinstance(item[0], str):
            raise self.error("'attributes' is not made of [module, name, value]")
        module, name, value = item
        name = self.text(name, "attributes")
        if isinstance(value, list):
            return Attribute(module, name, list(self.ints(value, name)))
        return Attribute(module, name, self.integer(value, name))

    def input(self, value: Any) -> InputSpec | None:
        """How inputs look."""
        if value is None:
            return None
        fields = self.mapping(value, "input")
        size = self.ints(fields.get("size"), "size")
        if not size or min(size) < 1 or math.prod(size) > LARGEST_INPUT:
            raise self.error("'size' is not made of ordinary positive numbers")
        means: list[tuple[float, ...] | None] = []
        for name in ("mean", "std"):
            figures = fields.get(name)
            means.append(
                None if figures is None else tuple(self.number(v, name) for v in self.sequence(figures, name))
            )
            if means[-1] is not None and len(means[-1]) not in (1, size[0]):
                raise self.error(f"{name!r} has {len(means[-1])} figures for {size[0]} channels")
        if means[1] is not None and min(means[1], default=1.0) <= 0:
            raise self.error("'std' is not made of positive numbers")
        interpolation = self.text(fields.get("interpolation"), "interpolation")
        if interpolation not in (*INTERPOLATIONS, "random"):
            raise self.error(f"the interpolation {interpolation[:20]!r} is not known")
        crop_pct = self.number(fields.get("crop_pct"), "crop_pct")
        if not _CROPS[0] <= crop_pct <= _CROPS[1]:
            raise self.error(f"'crop_pct' is not between {_CROPS[0]:g} and {_CROPS[1]:g}")
        return InputSpec(size, means[0], means[1], interpolation, crop_pct, "stored in the file")
