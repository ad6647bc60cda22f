from __future__ import annotations

import pytest

from tsdistill.errors import TsdistillError
from tsdistill.pruning.selection.budget import Budget, amount, asked, budget_of, requested


@pytest.mark.parametrize(
    ("value", "part"), [(0.5, 0.5), ("0.5", 0.5), ("50%", 0.5), (1, 1.0), (" 7.5% ", 0.075), (".5", 0.5)]
)
@pytest.mark.parametrize("kind", ["macs", "params", "nodes", "latency"])
def test_fractions_and_percentages(kind: str, value: object, part: float) -> None:
    found = budget_of(**{kind: value})
    assert (found.kind, found.limit) == (kind, None)
    assert found.kept == pytest.approx(part)
    assert found.absolute(200) == pytest.approx(200 * part)


@pytest.mark.parametrize(
    ("kind", "value", "limit"),
    [
        ("macs", "1.2G", 1.2e9),
        ("macs", "300 M", 3e8),
        ("params", "5k", 5000),
        ("params", "5m", 5e6),
        ("nodes", 1_200_000, 1.2e6),
        ("nodes", "1_200", 1200),
        ("macs", 1.2e9, 1.2e9),
        ("macs", "2.5e6", 2.5e6),
        ("latency", "10ms", 0.01),
        ("latency", "0.01s", 0.01),
        ("latency", "250 us", 2.5e-4),
        ("latency", "250µs", 2.5e-4),
    ],
)
def test_amounts(kind: str, value: object, limit: float) -> None:
    found = budget_of(**{kind: value})
    assert found.kept is None
    assert found.limit == pytest.approx(limit)
    assert found.absolute(10 * limit) == found.limit


@pytest.mark.parametrize(
    "value",
    [0, 1.2, -0.5, "120%", "half", "nan", "inf", "", True, None, "0.1k0", "5Q", "5k%", "1.5", "G", [1]],
)
@pytest.mark.parametrize("kind", ["macs", "params", "nodes"])
def test_what_is_neither_a_part_nor_an_amount_is_one_line(kind: str, value: object) -> None:
    if value is None:
        return
    with pytest.raises(TsdistillError, match=r"\b0 .*\b1\b") as caught:
        budget_of(**{kind: value})
    assert kind in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["10", 10, "0ms", "10M", "-3ms", "5mins"])
def test_a_time_has_a_unit(value: object) -> None:
    with pytest.raises(TsdistillError, match="10ms"):
        budget_of(latency=value)


def test_exactly_one_budget() -> None:
    assert budget_of(params="25%") == Budget("params", 0.25)
    assert budget_of(latency=Budget("latency", limit=0.01)) == Budget("latency", limit=0.01)
    with pytest.raises(TsdistillError, match="macs takes"):
        budget_of(macs=Budget("nodes", 0.5))
    with pytest.raises(TsdistillError, match="no budget"):
        budget_of()
    with pytest.raises(TsdistillError, match=r"macs .*nodes"):
        budget_of(macs=0.5, nodes=0.5)
    with pytest.raises(TsdistillError, match=r"params .*latency"):
        budget_of(params=0.5, latency="3ms")
    for wrong in ({}, {"kept": 0.5, "limit": 3.0}):
        with pytest.raises(TsdistillError, match="either"):
            Budget("macs", **wrong)


def test_lossless_takes_no_budget() -> None:
    assert asked(lossless=True) is None
    assert asked(macs=0.5) == Budget("macs", 0.5)
    with pytest.raises(TsdistillError, match=r"lossless .*nodes"):
        asked(nodes=0.5, lossless=True)


def test_an_amount_above_the_whole_is_nothing_to_do() -> None:
    assert Budget("params", limit=5e6).absolute(5e6) == 5e6
    with pytest.raises(TsdistillError, match=r"5M parameters .*4\.2M parameters"):
        Budget("params", limit=5e6).absolute(4_200_000)


def test_budgets_in_words() -> None:
    assert str(Budget("macs", 0.5)) == "0.5 of the MACs"
    assert str(Budget("params", limit=5e6)) == "5M parameters"
    assert str(Budget("nodes", limit=1200)) == "1200 nodes"
    assert str(Budget("latency", limit=0.01)) == "10ms of latency"


@pytest.mark.parametrize("value", [7, 1234, 123_456, 1_234_567, 999_960_000, 1.23456e9, 7.77777e12])
@pytest.mark.parametrize("kind", ["macs", "latency"])
def test_an_amount_that_is_rounded_up_is_a_budget_not_below_it(kind: str, value: float) -> None:
    value = value * 1e-7 if kind == "latency" else value
    said = budget_of(**{kind: amount(kind, value, up=True).split()[0]})
    assert said.limit is not None
    assert value * (1 - 1e-12) <= said.limit <= 1.002 * value


@pytest.mark.parametrize("budget", [0.5, 1, ["macs"]])
def test_a_budget_that_is_no_mapping_is_refused(budget: object) -> None:
    with pytest.raises(TsdistillError, match="budget takes"):
        requested(None, budget)  # type: ignore[arg-type]
