import pytest

from tests.language import causal
from tsdistill.cli.shared_options import analysis_values, data_values
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
    assert data_values(PARAMS).samples is None
    assert data_values({**PARAMS, "data": "synthetic:pink"}).samples is None
    assert data_values({**PARAMS, "data": "photos"}).samples == 2048
    assert data_values({**PARAMS, "data": "photos", "samples": 9}).samples == 9
    assert data_values({**PARAMS, "data": "a.txt"}, causal()).samples == 128
    assert data_values({**PARAMS, "data": "b.jsonl:text"}).samples == 128
    assert data_values({**PARAMS, "data": "tokens"}, causal()).samples == 128


def test_what_was_not_given_is_left_at_its_default() -> None:
    assert data_values(PARAMS) == DataOptions(batch_size=8)
    assert data_values({**PARAMS, "augment": "standard"}).augment == "standard"
    assert analysis_values(COMPARED) == AnalysisOptions()
    params = {"metric": ("cka", "cosine"), "pairs": (("a", "b"), ("c", "d")), "weak": 0.0, "positions": "all"}
    assert analysis_values({**COMPARED, **params}) == AnalysisOptions(
        metric=("cka", "cosine"), pairs={"a": "b", "c": "d"}, weak=0.0, positions=None
    )


def test_a_group_is_paired_once() -> None:
    twice = {**COMPARED, "pairs": (("a", "b"), ("a", "c"))}
    with pytest.raises(TsdistillError, match="--pair a=c: a is paired with b already"):
        analysis_values(twice)
    assert analysis_values({**COMPARED, "pairs": (("a", "b"), ("a", "b"))}).pairs == {"a": "b"}
