"""The metadata of our own files: written as JSON, and believed only after every field has been checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tsdistill.errors import TsdistillError
from tsdistill.models.checking import LONGEST_SPEC, Checker
from tsdistill.models.info import ModelInfo

VERSION = 1


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
    check = Checker(path)
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise check.error("it is not JSON") from error
    fields = check.mapping(raw, "the whole")
    version = fields.get("version")
    if version != VERSION or isinstance(version, bool):
        named = str(version) if isinstance(version, (int, str)) or version is None else type(version).__name__
        raise TsdistillError(
            f"{path} is of format {named[:20]!a}, this tsdistill reads {VERSION}; update tsdistill"
        )
    arch = check.text(fields.get("arch"), "arch", LONGEST_SPEC)
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
