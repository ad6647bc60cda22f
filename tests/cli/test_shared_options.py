import pytest

from tsdistill.cli.shared_options import comparing, reading
from tsdistill.errors import TsdistillError
from tsdistill.options import AnalysisOptions, DataOptions

PARAMS = {"data": None, "samples": None, "batch_size": 8, "augment": None, "strict": None}

COMPARED = {
    "metric": (),
    "pairs": (),
    "positions": None,
    "aligned": None,
    "weak": None,
    "redundant": None,
}


def test_samples_are_bounded_for_real_data_only() -> None:
    assert reading(PARAMS).samples is None
    assert reading({**PARAMS, "data": "synthetic:pink"}).samples is None
    assert reading({**PARAMS, "data": "photos"}).samples == 2048
    assert reading({**PARAMS, "data": "photos", "samples": 9}).samples == 9


def test_what_was_not_given_is_left_at_its_default() -> None:
    assert reading(PARAMS) == DataOptions(batch_size=8)
    assert reading({**PARAMS, "augment": "standard"}).augment == "standard"
    assert comparing(COMPARED) == AnalysisOptions()
    params = {"metric": ("cka", "cosine"), "pairs": (("a", "b"), ("c", "d")), "weak": 0.0, "positions": "all"}
    assert comparing({**COMPARED, **params}) == AnalysisOptions(
        metric=("cka", "cosine"), pairs={"a": "b", "c": "d"}, weak=0.0, positions=None
    )


def test_a_group_is_paired_once() -> None:
    twice = {**COMPARED, "pairs": (("a", "b"), ("a", "c"))}
    with pytest.raises(TsdistillError, match="--pair a=c: a is paired with b already"):
        comparing(twice)
    assert comparing({**COMPARED, "pairs": (("a", "b"), ("a", "b"))}).pairs == {"a": "b"}
