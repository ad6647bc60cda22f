from __future__ import annotations

import time

import torch
from torch import nn

from tsdistill.runtime.latency import latency, timings


class Sleeper(nn.Module):
    def __init__(self, seconds: float, log: list[float]) -> None:
        super().__init__()
        self.seconds, self.note = seconds, log.append  # a list in an attribute would be put back

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.note(self.seconds)
        time.sleep(self.seconds)
        return x


def test_models_take_turns_and_are_timed_by_the_median() -> None:
    log: list[float] = []
    models = [Sleeper(0.002, log), Sleeper(0.02, log)]
    seconds = latency(models, torch.zeros(1), repeats=5)
    assert 0.002 <= seconds[0] < seconds[1]
    assert seconds[1] >= 0.02
    assert log == [0.002, 0.02] * 7
    assert all(model.training for model in models)


def test_it_stops_in_time() -> None:
    log: list[float] = []
    latency([Sleeper(0.01, log)], torch.zeros(1), repeats=1000, max_seconds=0.05)
    assert 3 <= len(log) < 20


def test_a_larger_model_takes_longer() -> None:
    models = [nn.Sequential(*(nn.Linear(width, width) for _ in range(4))) for width in (16, 1024)]
    small, large = latency([models[0]], torch.zeros(1, 16)) + latency([models[1]], torch.zeros(1, 1024))
    assert small < large


def test_timings_go_on_for_the_least_time_and_have_a_spread() -> None:
    log: list[float] = []
    (timing,) = timings([Sleeper(0.001, log)], torch.zeros(1), repeats=2, min_seconds=0.05)
    assert timing.passes == len(log) - 2
    assert 5 < timing.passes <= 50
    assert timing.seconds >= 0.001
    assert 0 <= timing.spread < timing.seconds


class Uneven(nn.Module):
    """Takes longer every time."""

    turn = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.turn += 1
        time.sleep(0.01 * self.turn)
        return x


def test_the_spread_is_the_median_absolute_deviation() -> None:
    (timing,) = timings([Uneven()], torch.zeros(1), repeats=5)
    assert timing.passes == 5
    assert 0.05 <= timing.seconds < 0.1
    assert 0.005 < timing.spread < 0.05
    (alone,) = timings([Uneven()], torch.zeros(1), repeats=1)
    assert (alone.passes, alone.spread) == (1, 0)
