from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tsdistill.errors import TsdistillError
from tsdistill.options.pruning_options import MOST_ROUNDS, RealignOptions
from tsdistill.pruning.rounds import MOST, STEP, limits, rounds_for


@pytest.mark.parametrize("realign", [False, True])
@pytest.mark.parametrize("given", [1, 3, 20, MOST_ROUNDS])
def test_a_number_that_is_given_holds(given: int, realign: bool) -> None:
    assert rounds_for(0.5, given, realign) == given


@pytest.mark.parametrize("given", [0, -2, 1.0, True, "3", MOST_ROUNDS + 1, 10**9])
def test_what_is_no_number_of_rounds_is_one_line(given: Any) -> None:
    with pytest.raises(TsdistillError, match="rounds ") as caught:
        RealignOptions(rounds=given)
    assert "\n" not in str(caught.value)


def test_without_re_alignment_or_anything_to_do_there_is_one() -> None:
    assert rounds_for(0.01, None, False) == 1
    assert rounds_for(1.0, None, True) == 1
    assert rounds_for(1.5, None, True) == 1


def test_the_less_is_kept_the_more_rounds_there_are() -> None:
    parts = [0.99, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.01, 1e-6]
    found = [rounds_for(part, None, True) for part in parts]
    assert found == sorted(found)
    assert found[0] == 1
    assert found[-1] == MOST
    for part, rounds in zip(parts, found, strict=True):
        kept = part ** (1 / rounds)
        assert rounds == MOST or kept > STEP - 0.01
        assert rounds == 1 or part ** (1 / (rounds - 1)) < STEP + 0.01


@pytest.mark.parametrize(
    ("whole", "last", "rounds"), [(1.0, 0.5, 1), (2e9, 3e8, 4), (1200, 1000, 7), (5, 5, 3)]
)
def test_limits_go_down_in_equal_ratios_and_end_at_the_budget(whole: float, last: float, rounds: int) -> None:
    found = limits(whole, last, rounds)
    assert len(found) == rounds
    assert found[-1] == last
    for before, after in pairwise([whole, *found]):
        assert after / before == pytest.approx((last / whole) ** (1 / rounds))
