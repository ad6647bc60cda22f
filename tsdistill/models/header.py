"""The metadata of our own files: written as JSON, and believed only after every field has been checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tsdistill.errors import TsdistillError
from tsdistill.models import catalog
from tsdistill.models.info import Attribute, InputSpec, ModelInfo
from tsdistill.models.inputs import INTERPOLATIONS
from tsdistill.models.specs import parse as parse_spec

VERSION = 1

_LARGEST = 2**31 - 1
_LARGEST_OPTION = 2**20
_SLACK = 2**28
_TIMES_STORED = 64


@dataclass(frozen=True)
class Header:
    """What our own files say besides the tensors.

    Attributes:
        info: architecture, inputs, changed attributes and the non-persistent buffers that are stored.
        tied: names of parameters that share the one stored under another name.
        orders: for tensors that do not lie row by row, their dimensions from the outermost in memory inwards.
    """

    info: ModelInfo
    tied: Mapping[str, str] = field(default_factory=dict)
    orders: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def dump(header: Header) -> str:
    """The header as JSON."""
    info = header.info
    spec = info.input
    fields: dict[str, Any] = {
        "version": VERSION,
        "arch": info.arch,
        "input": None,
        "attributes": [[a.module, a.name, a.value] for a in info.attributes],
        "buffers": list(info.buffers),
        "tied": dict(header.tied),
        "orders": {name: list(order) for name, order in header.orders.items()},
    }
    if spec is not None:
        fields["input"] = {
            "size": spec.size,
            "mean": spec.mean,
            "std": spec.std,
            "interpolation": spec.interpolation,
            "crop_pct": spec.crop_pct,
            "source": spec.source,
        }
    return json.dumps(fields)


def parse(raw: Any, path: Path) -> Header:
    """Check the metadata of ``path`` field by field.

    Raises:
        TsdistillError: names the first field that is missing, of the wrong type or out of range.
    """
    check = _Check(path)
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise check.error("it is not JSON") from error
    fields = check.mapping(raw, "the whole")
    version = fields.get("version")
    if version != VERSION or isinstance(version, bool):
        raise TsdistillError(
            f"{path} is of format {str(version)[:20]!r}, this tsdistill reads {VERSION}; update tsdistill"
        )
    arch = check.text(fields.get("arch"), "arch")
    attributes = tuple(
        check.attribute(item) for item in check.sequence(fields.get("attributes"), "attributes")
    )
    buffers = tuple(check.text(item, "buffers") for item in check.sequence(fields.get("buffers"), "buffers"))
    tied = check.mapping(fields.get("tied"), "tied")
    orders = check.mapping(fields.get("orders"), "orders")
    return Header(
        ModelInfo(arch, check.input(fields.get("input")), attributes, buffers),
        {alias: check.text(name, "tied") for alias, name in tied.items()},
        {name: check.ints(order, "orders") for name, order in orders.items()},
    )


def check_safe(spec: str, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse an architecture out of a file's metadata that would take far more memory than the file holds.

    Raises:
        TsdistillError: an option is huge, or the architecture cannot be built or is far too large.
    """
    _, options = parse_spec(spec.partition(":")[2], spec)
    for key, value in options.items():
        if isinstance(value, int) and abs(value) > _LARGEST_OPTION:
            raise TsdistillError(f"{path}: damaged metadata: the architecture asks for {key}={value}")
    try:
        empty = catalog.build_empty(spec).model
    except TsdistillError as error:
        raise TsdistillError(
            f"{path}: its metadata names an architecture that cannot be built: {error}"
        ) from error
    size = sum(p.numel() for p in empty.parameters())
    held = sum(t.numel() for t in tensors.values())
    if size > _TIMES_STORED * held + _SLACK:
        raise TsdistillError(
            f"{path}: damaged metadata: {spec} has {size} parameters, the file {held}; name another by --arch"
        )


class _Check:
    def __init__(self, path: Path) -> None:
        self.path = path

    def error(self, what: str) -> TsdistillError:
        return TsdistillError(f"{self.path}: damaged metadata: {what}; save the model again")

    def mapping(self, value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.error(f"{name} is not a mapping")
        return value

    def sequence(self, value: Any, name: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.error(f"{name!r} is not a list")
        return value

    def text(self, value: Any, name: str) -> str:
        if not isinstance(value, str) or not value:
            raise self.error(f"{name!r} is not a text")
        return value

    def integer(self, value: Any, name: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST:
            raise self.error(f"{name!r} is not an ordinary whole number")
        return value

    def ints(self, value: Any, name: str) -> tuple[int, ...]:
        return tuple(self.integer(item, name) for item in self.sequence(value, name))

    def number(self, value: Any, name: str) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < _LARGEST:
            raise self.error(f"{name!r} is not an ordinary number")
        return float(value)

    def attribute(self, item: Any) -> Attribute:
        if not isinstance(item, list) or len(item) != 3 or not isinstance(item[0], str):
            raise self.error("'attributes' is not made of [module, name, value]")
        module, name, value = item
        name = self.text(name, "attributes")
        if isinstance(value, list):
            return Attribute(module, name, list(self.ints(value, name)))
        return Attribute(module, name, self.integer(value, name))

    def input(self, value: Any) -> InputSpec | None:
        if value is None:
            return None
        fields = self.mapping(value, "input")
        size = self.ints(fields.get("size"), "size")
        if not size or min(size) < 1:
            raise self.error("'size' is not made of positive numbers")
        means: list[tuple[float, ...] | None] = []
        for name in ("mean", "std"):
            figures = fields.get(name)
            means.append(
                None if figures is None else tuple(self.number(v, name) for v in self.sequence(figures, name))
            )
        interpolation = self.text(fields.get("interpolation"), "interpolation")
        if interpolation not in (*INTERPOLATIONS, "random"):
            raise self.error(f"the interpolation {interpolation[:20]!r} is not known")
        crop_pct = self.number(fields.get("crop_pct"), "crop_pct")
        return InputSpec(size, means[0], means[1], interpolation, crop_pct, "stored in the file")
