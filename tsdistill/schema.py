"""JSON, TOML and YAML from files of others: parsed within bounds, validated against a schema.

A schema is a `Schema` (a model of pydantic): the types of its fields are all there is to check by, and what
is not declared is left unread. Nothing is converted: ``"3"`` and ``true`` are no whole numbers.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from functools import cache
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
        TsdistillError: it is not of this kind, nested too deeply, or has a key twice in a mapping.
    """
    if kind == "yaml":
        import yaml

        with read_guard(what, way_out, yaml.YAMLError):
            return yaml.load(text, _plain_loader())
    try:
        if kind == "toml":
            return tomllib.loads(text if isinstance(text, str) else text.decode())
        return json.loads(text, object_pairs_hook=_mapping)
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise TsdistillError(
            f"{what} is not {kind.upper()} ({shortened(str(error), 200)}); {way_out}"
        ) from error


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping in JSON."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shortened(repr(repeated), LONGEST_NAME)} is given twice")
    return entries


@cache
def _plain_loader() -> Any:
    """PyYAML's loader of plain data, which refuses aliases (``*name``) and keys that come twice."""
    import yaml

    class PlainLoader(yaml.SafeLoader):
        """Nodes that stand for others are refused before they are looked up."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            """The next node."""
            if self.check_event(yaml.AliasEvent):
                raise yaml.composer.ComposerError(
                    None, None, "aliases are not read, write the value out", self.peek_event().start_mark
                )
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            """The mapping of a node."""
            mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
            names = set()
            for key_node, _ in node.value:
                name = self.construct_object(key_node, deep=True)
                if name in names:
                    problem = f"{shortened(repr(name), LONGEST_NAME)} is given twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
                names.add(name)
            return mapping

    return PlainLoader


def read_json(source: Path | str | bytes, schema: type[S], way_out: str, what: object = None) -> S:
    """Read and validate JSON.

    Args:
        source: a file (a ``Path``), or the text itself, of bounded length.
        schema: the class of its contents.
        way_out: advice for the user, the end of messages.
        what: the name of the file in messages; ``source`` by default.

    Raises:
        TsdistillError: it cannot be read, is too large or no JSON, or does not fit.
    """
    what = source if what is None else what
    text = read_text(source, LARGEST_DOCUMENT, way_out) if isinstance(source, Path) else source
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
