from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tsdistill.errors import TsdistillError
from tsdistill.schema import (
    LARGEST_DOCUMENT,
    Entries,
    Finite,
    Schema,
    Size,
    Text,
    parse,
    read_json,
    validated,
)


class Inner(Schema):
    size: Size
    costs: list[Finite]


class Outer(Schema):
    name: Text
    groups: Entries[Inner]


GOOD = {"name": "a", "groups": {"g": {"size": 3, "costs": [1, 0.5]}}, "unknown": 1}
ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(9 * [f'*{old}'])}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


def test_what_fits_is_taken_and_the_rest_left_unread() -> None:
    found = validated(Outer, GOOD, "the file", "mend it")
    assert found.groups["g"].costs == [1.0, 0.5]
    assert not hasattr(found, "unknown")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"name": 3}, "name"),
        ({"name": ""}, "name"),
        ({"name": "\x1b[2J"}, "name"),
        ({"name": "x" * 1000}, "name"),
        ({"groups": None}, "groups"),
        ({"groups": {"g": {"size": True, "costs": []}}}, r"groups\.g\.size"),
        ({"groups": {"g": {"size": "3", "costs": []}}}, r"groups\.g\.size"),
        ({"groups": {"g": {"size": 2**40, "costs": []}}}, r"groups\.g\.size"),
        ({"groups": {"g": {"size": 1, "costs": [1, float("nan")]}}}, r"groups\.g\.costs\.1"),
        ({"groups": {"g": {"size": 1, "costs": ["1"]}}}, r"groups\.g\.costs\.0"),
        ({"groups": {"g": {"costs": []}}}, r"groups\.g\.size"),
    ],
)
def test_the_first_field_that_does_not_fit_is_named(change: dict[str, Any], place: str) -> None:
    with pytest.raises(TsdistillError, match=rf"the file.*'{place}'.*mend it$") as caught:
        validated(Outer, {**GOOD, **change}, "the file", "mend it")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("data", [None, [], 3, "x"])
def test_what_is_no_mapping(data: Any) -> None:
    with pytest.raises(TsdistillError, match=r"^the file"):
        validated(Outer, data, "the file", "mend it")


def test_aliases_of_yaml_are_refused_before_they_grow() -> None:
    assert len(ALIASES) < 400
    tracemalloc.start()
    try:
        with pytest.raises(TsdistillError, match=r"run\.yaml"):
            parse(ALIASES, "yaml", "run.yaml", "mend it")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert parse("a: [1, 2.5, x]\nb: {c: true}", "yaml", "", "") == {"a": [1, 2.5, "x"], "b": {"c": True}}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json", '{"a": {"epochs": 1, "epochs": 2}}'),
        ("toml", "epochs = 1\nepochs = 2\n"),
        ("yaml", "a:\n  epochs: 1\n  other: 3\n  epochs: 2\n"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(kind: str, text: str) -> None:
    with pytest.raises(TsdistillError, match=r"^the file.*mend it$") as caught:
        parse(text, kind, "the file", "mend it")
    assert kind == "toml" or "epochs" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", ["json", "toml", "yaml"])
def test_texts_nested_without_end(kind: str) -> None:
    text = {"json": "[" * 100_000, "toml": "a = " + "[" * 30_000, "yaml": "- " * 20_000}[kind]
    with pytest.raises(TsdistillError, match="mend it"):
        parse(text, kind, "the file", "mend it")


def test_json_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"name": "a", "groups": {}}')
    assert read_json(path, Outer, "").name == "a"
    with path.open("wb") as file:
        file.truncate(LARGEST_DOCUMENT + 1)
    with pytest.raises(TsdistillError, match=r"a\.json"):
        read_json(path, Outer, "")
