"""Forecasts: the time of stages, and how long the rest will take."""

from __future__ import annotations

import pytest

from tsdistill.runtime.progress import Forecast, expect, prefixed


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_said_of_the_whole_before_a_pass_has_been_measured() -> None:
    clock = Clock()
    forecast = Forecast(clock)
    forecast.update("reading", 0, None)
    clock.now += 5
    forecast.expect({"one pass": 1, "observing": 20, "strength": 40})
    assert forecast.left() is None
    forecast.update("one pass", 0, None)
    clock.now += 0.5
    forecast.update("observing", 0, None)
    assert forecast.left() == pytest.approx(30)
    assert forecast.elapsed == pytest.approx(5.5)


def test_a_stage_that_has_begun_goes_by_its_own_pace() -> None:
    clock = Clock()
    forecast = Forecast(clock)
    forecast.expect({"observing": 10, "strength": 30})
    forecast.update("observing", 0, 100)
    clock.now += 2
    forecast.update("observing", 50, 100)
    assert forecast.left() == pytest.approx(2 + 30 * 0.4)
    clock.now += 2
    forecast.update("strength", 0, 100)
    assert forecast.left() == pytest.approx(30 * 0.4)


def test_a_stage_that_is_passed_over_is_no_longer_waited_for() -> None:
    clock = Clock()
    forecast = Forecast(clock)
    forecast.expect({"a": 1, "matching": 100, "b": 1, "c": 3})
    forecast.update("a", 0, None)
    clock.now += 1
    forecast.update("b", 0, None)
    clock.now += 1
    forecast.end()
    assert forecast.left() == pytest.approx(3)


def test_a_stage_that_nobody_expected_costs_nothing_and_counts_as_time() -> None:
    clock = Clock()
    forecast = Forecast(clock)
    forecast.expect({"a": 1, "b": 2})
    forecast.update("a", 0, None)
    clock.now += 1
    forecast.update("extra", 0, None)
    clock.now += 7
    assert forecast.left() == pytest.approx(2)
    assert forecast.elapsed == pytest.approx(8)


def test_a_stage_that_comes_again_is_counted_again() -> None:
    clock = Clock()
    forecast = Forecast(clock)
    for _ in range(2):
        forecast.expect({"observing": 2, "describing": 1})
        forecast.update("observing", 0, None)
        clock.now += 2
        forecast.update("describing", 0, None)
        assert forecast.left() == pytest.approx(1)
        clock.now += 1
        assert forecast.end() == pytest.approx(1)
    assert forecast.left() == pytest.approx(0)


def test_stages_that_are_expected_within_a_stage_come_before_what_was_expected_behind_it() -> None:
    clock = Clock()
    forecast = Forecast(clock)
    forecast.expect({"survey": 1, "writing": 1})
    forecast.update("survey", 0, None)
    clock.now += 1
    forecast.expect({"tracing": 1, "observing": 2})
    forecast.update("observing", 0, None)
    assert forecast.left() == pytest.approx(3)


def test_a_prefix_goes_with_stages_and_with_what_is_expected() -> None:
    said: list[str] = []

    class Listener:
        def __call__(self, stage: str, done: int, total: int | None) -> None:
            said.append(stage)

        def expect(self, stages: dict[str, float]) -> None:
            said.extend(stages)

    told = prefixed(Listener(), "round 2: ")
    assert told is not None
    told("observing", 0, None)
    expect(told, {"strength": 1.0})
    assert said == ["round 2: observing", "round 2: strength"]
    expect(lambda *_: None, {"strength": 1.0})
    assert prefixed(None, "round 2: ") is None
