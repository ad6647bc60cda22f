import pytest

from tsdistill.alignment import Thresholds
from tsdistill.cli.options import comparing, observing, reading
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
