import click
import pytest

from tsdistill.alignment import Thresholds
from tsdistill.cli.options import (
    Figures,
    Pair,
    Positions,
    Size,
    check_device,
    comparing,
    observing,
    reading,
)
from tsdistill.errors import TsdistillError

GIVEN = {
    "data": None,
    "samples": None,
    "batch_size": 8,
    "seed": 3,
    "augment": None,
}

COMPARED = {
    "metric": (),
    "pair": (),
    "positions": "auto",
    "aligned": None,
    "weak": None,
    "redundant": None,
}


@pytest.mark.parametrize(
    ("text", "size"), [("3x224x192", (3, 224, 192)), ("3,16,16", (3, 16, 16)), ("224", (224,))]
)
def test_size(text: str, size: tuple[int, ...]) -> None:
    assert Size().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "3x", "3x0x4", "-3", "3.5", "3 4"])
def test_size_refuses(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not a size"):
        Size().convert(text, None, None)


def test_figures() -> None:
    assert Figures().convert("0.5, 0.25,1", None, None) == (0.5, 0.25, 1.0)
    with pytest.raises(click.BadParameter, match="not a list of figures"):
        Figures().convert("0.5,,1", None, None)


def test_samples_are_bounded_for_real_data_only() -> None:
    assert reading(GIVEN)["samples"] is None
    assert reading({**GIVEN, "data": "synthetic:pink"})["samples"] is None
    assert reading({**GIVEN, "data": "photos"})["samples"] == 2048
    assert reading({**GIVEN, "data": "photos", "samples": 9})["samples"] == 9


def test_observing_leaves_out_what_was_not_given() -> None:
    assert observing(GIVEN) == {"samples": None, "batch_size": 8, "seed": 3}
    assert observing({**GIVEN, "augment": "standard"})["augment"] == "standard"


def test_comparing_leaves_out_what_was_not_given() -> None:
    assert comparing(COMPARED) == {"positions": "auto"}
    given = {"metric": ("cka", "cosine"), "pair": (("a", "b"), ("c", "d")), "weak": 0.0, "positions": None}
    assert comparing({**COMPARED, **given}) == {
        "metric": ("cka", "cosine"),
        "pairs": {"a": "b", "c": "d"},
        "thresholds": Thresholds(weak=0.0),
        "positions": None,
    }


def test_a_group_is_paired_once() -> None:
    twice = {**COMPARED, "pair": (("a", "b"), ("a", "c"))}
    with pytest.raises(TsdistillError, match="--pair a=c: a is paired with b already"):
        comparing(twice)
    assert comparing({**COMPARED, "pair": (("a", "b"), ("a", "b"))})["pairs"] == {"a": "b"}


@pytest.mark.parametrize(("text", "pair"), [("a=b", ("a", "b")), (" l.0 = l.1 ", ("l.0", "l.1"))])
def test_pair(text: str, pair: tuple[str, str]) -> None:
    assert Pair().convert(text, None, None) == pair


@pytest.mark.parametrize("text", ["", "a", "=", "a=", "=b", "a=b=c"])
def test_pair_refuses(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a pair such as"):
        Pair().convert(text, None, None)


@pytest.mark.parametrize(("text", "positions"), [("auto", "auto"), ("all", None), ("64", 64)])
def test_positions(text: str, positions: str | int | None) -> None:
    assert Positions().convert(text, None, None) == positions


@pytest.mark.parametrize("text", ["", "0", "-3", "some", "1.5"])
def test_positions_refuses(text: str) -> None:
    with pytest.raises(click.BadParameter, match="none of auto, all and a number"):
        Positions().convert(text, None, None)


@pytest.mark.parametrize("name", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(TsdistillError, match=f"--device {name}: .*--device cpu") as caught:
        check_device(name)
    assert "\n" not in str(caught.value)
