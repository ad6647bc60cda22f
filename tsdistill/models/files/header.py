"""The metadata of our own files: written as JSON, and used only after every field has been checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Strict, model_validator

from tsdistill import schema
from tsdistill.errors import TsdistillError
from tsdistill.models.info import Attribute, InputSpec, ModelInfo
from tsdistill.models.replacements import Replacement
from tsdistill.printable import printable
from tsdistill.schema import (
    LARGEST,
    LONGEST_TEXT,
    MOST_ENTRIES,
    Entries,
    Finite,
    Schema,
    Size,
    Text,
    Whole,
    text_of,
    validated,
)

VERSION = 2
"""Version of the metadata. It goes up when an older tsdistill could not read what a newer one writes.
Where no module is replaced, version 1 is written, which older ones read."""

MOST_CHANNELS = 2**20
"""Values that a replaced module may give: far above what widths of layers are."""

MOST_DIMENSIONS = 64
"""Dimensions of a tensor at most, as PyTorch has them."""

MAX_INPUT = 2**26
"""Numbers in one sample: a picture of 4,700 by 4,700 pixels."""

MAX_SPEC = 2**15
"""Characters of a specification: configurations of transformers are spelt out in it."""

_WAY_OUT = "save the model again"


@dataclass(frozen=True)
class Header:
    """What our own files say besides the tensors.

    Attributes:
        info: architecture, inputs, changed attributes and the non-persistent buffers that are stored.
        tied: names of parameters that share the one stored under another name.
        orders: for tensors that do not lie row by row, their dimensions from the outermost in memory inwards.
        replaced: modules of the architecture that others without work take the place of.
    """

    info: ModelInfo
    tied: Mapping[str, str] = field(default_factory=dict)
    orders: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    replaced: tuple[Replacement, ...] = ()


class InputFields(Schema):
    """How inputs look, as a file says it."""

    size: list[Annotated[int, Field(ge=1, le=LARGEST)]] = Field(min_length=1, max_length=64)
    mean: list[Finite] | None
    std: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None
    interpolation: Literal["bicubic", "bilinear", "nearest", "random"]
    crop_pct: Annotated[float, Field(ge=0.05, le=20)]

    @model_validator(mode="after")
    def _together(self) -> InputFields:
        if math.prod(self.size) > MAX_INPUT:
            raise ValueError(f"should have at most {MAX_INPUT} numbers in a sample")
        for name, figures in (("mean", self.mean), ("std", self.std)):
            if figures is not None and len(figures) not in (1, self.size[0]):
                raise ValueError(f"{name} has {len(figures)} figures for {self.size[0]} channels")
        return self

    def spec(self, source: str = "stored in the file") -> InputSpec:
        """The same as the toolkit has it."""
        mean, std = (None if figures is None else tuple(figures) for figures in (self.mean, self.std))
        return InputSpec(tuple(self.size), mean, std, self.interpolation, float(self.crop_pct), source)


_Module = Annotated[str, Field(max_length=LONGEST_TEXT)]
_Triple = Annotated[tuple[_Module, Text, Whole | list[Whole]], Strict(False)]
"""A changed shape constant: module, name, value. JSON has lists for tuples."""


_Axis = Annotated[int, Field(ge=-MOST_DIMENSIONS, le=MOST_DIMENSIONS)]


def _size_rule(rule: list[int]) -> list[int]:
    if len(rule) not in (1, 4) or (len(rule) == 4 and (rule[2] < 1 or rule[0] >= MOST_DIMENSIONS)):
        raise ValueError("is no rule for a size")
    return rule


_Sizes = Annotated[list[Annotated[list[Size], AfterValidator(_size_rule)]], Field(max_length=MOST_DIMENSIONS)]


class _Replaced(Schema):
    """A module that another one without work takes the place of."""

    module: Text
    source: Annotated[int, Field(ge=0, le=LARGEST)] | Text
    passes: bool
    form: Literal["tensor", "tuple", "list"]
    sizes: list[_Sizes | None] = Field(max_length=MOST_ENTRIES)
    rank: Annotated[int, Field(ge=0, le=MOST_DIMENSIONS)]
    place: Annotated[int, Field(ge=-1, le=LARGEST)]
    axis: _Axis
    channels: Annotated[int, Field(ge=0, le=MOST_CHANNELS)]
    writable: bool

    def replacement(self) -> Replacement:
        """The same as the toolkit has it."""
        sizes = tuple(
            None if output is None else tuple(tuple(rule) for rule in output) for output in self.sizes
        )
        return Replacement(**{**self.model_dump(), "sizes": sizes})


class _Fields(Schema):
    """The metadata, field by field."""

    version: int
    arch: text_of(MAX_SPEC)  # type: ignore[valid-type]
    input: InputFields | None
    attributes: list[_Triple] = Field(max_length=MOST_ENTRIES)
    buffers: list[Text] = Field(max_length=MOST_ENTRIES)
    tied: Entries[Text]
    orders: Entries[list[Size]]
    replaced: list[_Replaced] = Field(default=[], max_length=MOST_ENTRIES)


def dump(header: Header) -> str:
    """The header as JSON."""
    info = header.info
    spec = info.input
    fields: dict[str, Any] = {
        "version": VERSION if header.replaced else 1,
        "arch": info.arch,
        "input": None,
        "attributes": [[a.module, a.name, a.value] for a in info.attributes],
        "buffers": list(info.buffers),
        "tied": dict(header.tied),
        "orders": {name: list(order) for name, order in header.orders.items()},
    }
    if header.replaced:
        fields["replaced"] = [asdict(each) for each in header.replaced]
    if spec is not None:
        names = ("size", "mean", "std", "interpolation", "crop_pct", "source")
        fields["input"] = {name: getattr(spec, name) for name in names}
    return json.dumps(fields)


def parse(raw: Any, path: Path) -> Header:
    """Check the metadata of ``path`` field by field.

    Args:
        raw: JSON text, or what it holds.
        path: the file, for messages.

    Raises:
        TsdistillError: names the first field that is missing, of the wrong type or out of range.
    """
    what = f"{path}: damaged metadata: it"
    if isinstance(raw, (str, bytes)):
        raw = schema.parse(raw, "json", what, _WAY_OUT)
    version = raw.get("version") if isinstance(raw, dict) else None
    if isinstance(raw, dict) and (type(version) is not int or not 1 <= version <= VERSION):
        named = version if isinstance(version, (int, str)) or version is None else type(version).__name__
        raise TsdistillError(
            f"{path} is of format {printable(named, 20)!r}, this tsdistill reads up to {VERSION}; "
            "update tsdistill"
        )
    fields = validated(_Fields, raw, what, _WAY_OUT)
    return Header(
        ModelInfo(
            fields.arch,
            None if fields.input is None else fields.input.spec(),
            tuple(Attribute(*row) for row in fields.attributes),
            tuple(fields.buffers),
        ),
        dict(fields.tied),
        {name: tuple(order) for name, order in fields.orders.items()},
        tuple(each.replacement() for each in fields.replaced),
    )
