"""JSON, TOML and YAML from files of others: parsed within bounds, validated against a schema.

A schema is a `Schema` (a model of pydantic): the types of its fields are all there is to check by, and what
is not declared is left unread. Nothing is converted: ``"3"`` and ``true`` are no whole numbers.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tsdistill.errors import TsdistillError
from tsdistill.printable import LONGEST_NAME, shortened
from tsdistill.untrusted import read_guard, read_text

LARGEST_DOCUMENT = 2**25
"""Bytes of a JSON file: an index of 200,000 tensors takes 20 MB."""

LARGEST_OPTIONS = 2**16
"""Bytes of a file of options: hundreds of times what all options take."""

LARGEST = 2**31 - 1
"""Whole numbers above it are no sizes: PyTorch's kernels index a dimension by 32 bits."""

LONGEST_TEXT = 512
"""Characters of a name."""

MOST_ENTRIES = 2**18
"""Entries of a mapping: more than the tensors of the largest models in shards."""


class Schema(BaseModel):
    """A mapping with declared fields; strict, and frozen once validated."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("should be printable text")
    return text


def text_of(most: int) -> Any:
    """The type of a printable text of 1 to ``most`` characters."""
    return Annotated[str, Field(min_length=1, max_length=most), AfterValidator(_printable)]


Text = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT), AfterValidator(_printable)]
Whole = Annotated[int, Field(ge=-LARGEST, le=LARGEST)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Size = Annotated[int, Field(ge=0, le=LARGEST)]
Finite = Annotated[float, Field(allow_inf_nan=False)]

S = TypeVar("S", bound=Schema)
V = TypeVar("V")
Entries = Annotated[dict[Text, V], Field(max_length=MOST_ENTRIES)]


def validated(schema: type[S], data: Any, what: object, way_out: str) -> S:
    """``data`` as ``schema`` has it.

    Args:
        schema: what is wanted.
        data: plain data, as a parser gives them.
        what: the file, as messages call it.
        way_out: what the user can do.

    Raises:
        TsdistillError: names the first field that is missing, of another type or out of range.
    """
    try:
        return schema.model_validate(dict(data) if isinstance(data, Mapping) else data)
    except ValidationError as error:
        raise TsdistillError(f"{what} {_first(error)}; {way_out}") from error
    except RecursionError as error:
        raise TsdistillError(f"{what} is nested too deeply; {way_out}") from error


def parse(text: str | bytes, kind: str, what: object, way_out: str) -> Any:
    """The plain data in a text.

    Args:
        text: the text, of bounded length.
        kind: ``"json"``, ``"toml"`` or ``"yaml"``. YAML's aliases are refused: a few hundred bytes of them
            stand for gigabytes.
        what: the file, as messages call it.
        way_out: what the user can do.

    Raises:
        TsdistillError: it is not of this kind, or nested too deeply.
    """
    if kind == "yaml":
        import yaml

        from tsdistill.yaml_text import plain_loader

        with read_guard(what, way_out, yaml.YAMLError):
            return yaml.load(text, plain_loader())
    try:
        if kind == "toml":
            return tomllib.loads(text if isinstance(text, str) else text.decode())
        return json.loads(text)
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise TsdistillError(
            f"{what} is not {kind.upper()} ({shortened(str(error), 200)}); {way_out}"
        ) from error


def read_json(path: Path, schema: type[S], way_out: str, what: object = None) -> S:
    """Read and validate a JSON file.

    Args:
        path: the file.
        schema: the class of its contents.
        way_out: advice for the user, the end of messages.
        what: the name of the file in messages; ``path`` by default.

    Raises:
        TsdistillError: it cannot be read, is too large or no JSON, or does not fit.
    """
    what = path if what is None else what
    text = read_text(path, LARGEST_DOCUMENT, way_out)
    return validated(schema, parse(text, "json", what, way_out), what, way_out)


def _first(error: ValidationError) -> str:
    """The first fault in words: ``has no valid 'groups.fc1.size' (Input should be ...)``."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    if first["type"] in ("model_type", "dict_type"):
        message = "it should be a mapping"
    if first["type"] == "value_error" and not first["loc"]:
        return message
    place = ".".join(str(part) for part in first["loc"])
    return f"has no valid {shortened(place, LONGEST_NAME)!r} ({message})" if place else f"is wrong: {message}"


def finite_or_none(value: Any) -> Any:
    """``value`` as JSON takes it: ``None`` for NaN and infinity, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
