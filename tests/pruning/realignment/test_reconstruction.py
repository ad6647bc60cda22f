from __future__ import annotations

import copy
import importlib
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.networks import images, randomise, residual
from tests.pruning.realignment.transformer import Classified, Transformer
from tsdistill.alignment import analyze
from tsdistill.errors import TsdistillError
from tsdistill.pruning import prune_result
from tsdistill.pruning.pruning_state import IndexMap
from tsdistill.pruning.realignment import pausable_forward, realign
from tsdistill.tracing import cut, trace

BATCHES = [(x, None) for x in images(240, seed=5).split(40)]


def convolutions() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU6()),
        *(nn.Conv2d(8, 8, 3, groups=8, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 6, 1), nn.GroupNorm(2, 6), nn.Hardswish(), nn.Flatten(), nn.Linear(96, 5)),
    )


class Tabled(nn.Module):
    """Residual branches behind a table that is computed at the first evaluation and kept until training."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)
        self.shift, self.kept = nn.Parameter(torch.randn(8, 4)), dict[str, Tensor]()

    def train(self, mode: bool = True) -> Tabled:
        super().train(mode)
        if mode:
            self.kept.clear()
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.training or "table" not in self.kept:
            table = self.shift.sum(1)[None, :, None, None] * 0.1
            self.kept["table"] = table.detach()
        x = self.stem(x) + self.kept["table"]
        x = torch.relu(self.branch(x) + x)
        return self.head(x.mean((2, 3)))


def kept(model: nn.Module) -> dict[tuple[str, int], np.ndarray]:
    return IndexMap(model, trace(model, BATCHES[0][0][:1])).kept


def gap(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        wanted = other(x)
        return float((one(x) - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum())


@pytest.mark.parametrize("make", [residual, convolutions, Transformer, Tabled])
def test_nodes_that_were_moved_come_back(make: Any) -> None:
    dense = make()
    randomise(dense)
    dense.eval()
    small = copy.deepcopy(dense)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.3 * parameter.std(correction=0) * torch.randn_like(parameter))
    before, state = gap(small, dense, BATCHES[0][0]), copy.deepcopy(dense.state_dict())
    left = kept(dense)
    for model in (dense, small):
        model.train().eval()  # what an evaluation has left behind is gone
    done = realign(dense, small, left, BATCHES)
    assert done.fitted > 2
    assert done.samples == 240
    assert gap(small, dense, images(100, seed=9)) < 0.02 * before
    assert all(torch.equal(value, state[name]) for name, value in dense.state_dict().items())
    hooks = [m._forward_hooks or m._forward_pre_hooks for m in (*dense.modules(), *small.modules())]
    assert not any(hooks)


def test_what_is_right_already_stays() -> None:
    dense = residual()
    small = copy.deepcopy(dense)
    realign(dense, small, kept(dense), BATCHES)
    assert gap(small, dense, BATCHES[0][0]) < 1e-8


@pytest.mark.parametrize("make", [residual, convolutions, Transformer])
def test_after_a_cut_it_is_nearer_on_samples_that_it_has_not_seen(make: Any) -> None:
    dense = make()
    randomise(dense)
    dense.eval()
    x, other = images(400, seed=1), images(200, seed=2)
    report = analyze(dense, data=x)
    plain, fitted = (
        prune_result(dense, data=x, macs=0.6, report=report, realignment={"realign": way, "rounds": 1})
        for way in (False, True)
    )
    assert plain.plan.removed == fitted.plan.removed
    assert plain.realigned == 0 < fitted.realigned
    assert gap(fitted.model, dense, other) < 0.98 * gap(plain.model, dense, other)


class Counting(nn.Module):
    """Counts the samples that go through."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.seen = model, 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.model(x)


def test_what_no_output_hangs_on_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    dense = Classified().eval()
    graph = trace(dense, BATCHES[0][0][:1])
    small = cut(dense, graph, {"fc1": range(4, 24)}, BATCHES[0][0][:1]).model
    left = kept(dense)
    for slot in graph.by_name["fc1"].slots:
        left[slot.param, slot.dim] = np.arange(4)
    blind = copy.deepcopy(small)
    realign(dense, small, left, BATCHES)
    stages = importlib.import_module("tsdistill.pruning.realignment.reconstruction")
    monkeypatch.setattr(stages, "active_positions", lambda *_: {})
    realign(dense, blind, left, BATCHES)
    unseen = images(200, seed=8)
    assert gap(small, dense, unseen) < 0.5 * gap(blind, dense, unseen)


def test_it_costs_one_pass_of_each_model_whatever_the_number_of_layers() -> None:
    dense, small = Counting(convolutions()), Counting(convolutions())
    realign(dense, small, kept(dense), BATCHES)
    assert dense.seen <= 240 + 16
    assert small.seen <= 240 + 10


def test_little_memory_lets_batches_join_late(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = convolutions()
    randomise(dense)
    dense.eval()
    start = copy.deepcopy(dense)
    with torch.no_grad():
        for parameter in start.parameters():
            parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    walks: list[int] = []
    at = pausable_forward.BatchScheduler.at

    def spied(self: pausable_forward.BatchScheduler, stop: str) -> Any:
        found = list(at(self, stop))
        walks.append(len(found))
        return iter(found)

    monkeypatch.setattr(pausable_forward.BatchScheduler, "at", spied)
    gaps = []
    for memory in (2**30, 2**17):
        small = copy.deepcopy(start)
        threads = threading.active_count()
        realign(dense, small, kept(dense), BATCHES, memory=memory)
        assert threading.active_count() == threads
        gaps.append(gap(small, dense, images(100, seed=7)))
    half = len(walks) // 2
    assert set(walks[:half]) == {6}
    assert walks[half] < 6
    assert walks[half:] == sorted(walks[half:])
    assert gaps[1] < 1.5 * gaps[0] + 1e-4


def test_the_same_seed_gives_the_same_weights() -> None:
    dense = residual()
    results = []
    for _ in range(2):
        small = copy.deepcopy(dense)
        with torch.no_grad():
            small.get_parameter(next(n for n, p in small.named_parameters() if p.ndim > 1)).mul_(1.3)
        realign(dense, small, kept(dense), BATCHES, seed=4)
        results.append(small.state_dict())
    assert all(torch.equal(results[0][name], value) for name, value in results[1].items())


def test_without_data_there_is_one_line() -> None:
    model = residual()
    with pytest.raises(TsdistillError, match="no samples"):
        realign(model, copy.deepcopy(model), kept(model), [])


def test_moving_the_layers_of_a_block_together_brings_it_nearer() -> None:
    blocks = (randomise(Inner(8), seed=i) for i in range(3))
    dense = nn.Sequential(residual(seed=1).stem, *blocks, nn.Flatten())
    dense.append(nn.Linear(512, 5)).eval()
    x, other = images(400, seed=1), images(200, seed=2)
    report = analyze(dense, data=x)
    alone, fast, together = (
        prune_result(dense, data=x, macs=0.6, report=report, realignment={"rounds": 1, **how})
        for how in ({"joint": False}, {"fast": True}, {})
    )
    assert gap(together.model, dense, other) < 0.95 * gap(alone.model, dense, other)
    assert gap(fast.model, dense, other) == gap(alone.model, dense, other)


class Inner(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(width, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(x + self.second(nn.functional.relu(self.norm(self.first(x)))))
