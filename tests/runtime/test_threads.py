"""Calls from several threads give what they give one after another, and leave the process as it was."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tsdistill as tsd
from tsdistill.runtime.modes import evaluation_mode, plain_evaluation
from tsdistill.runtime.module_names import module_names


def _encoder(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)
    return nn.Sequential(nn.Linear(6, 16), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)).eval()


def _convolutions(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    stem = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
    return nn.Sequential(stem, nn.Conv2d(12, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()


def _lstm(seed: int) -> nn.Module:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.lstm = nn.Linear(5, 12), nn.LSTM(12, 8, batch_first=True)
            self.out = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.lstm(self.enter(x).relu())[0])

    torch.manual_seed(seed)
    return Tagger().eval()


KINDS: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...]]] = {
    "encoder": (_encoder, (7, 6)),
    "convolutions": (_convolutions, (3, 8, 8)),
    "lstm": (_lstm, (6, 5)),
}


def _prune(job: tuple[str, int]) -> list[torch.Tensor]:
    kind, seed = job
    shape = KINDS[kind][1]
    model, data = MODELS[job], torch.randn(64, *shape, generator=torch.Generator().manual_seed(seed))
    small = tsd.prune(
        model,
        data=data,
        macs=0.7,
        inputs={"example_input": data[:1]},
        realignment={"rounds": 1, "joint": False},
    )
    return [value.clone() for value in small.state_dict().values()]


MODELS: dict[tuple[str, int], nn.Module] = {}


def _state() -> tuple[Any, ...]:
    backends = torch.backends
    return (
        backends.mha.get_fastpath_enabled(),
        backends.cuda.flash_sdp_enabled(),
        backends.cuda.mem_efficient_sdp_enabled(),
        backends.cuda.math_sdp_enabled(),
        backends.mkldnn.flags().__class__.__name__,
        torch._C._get_mkldnn_enabled(),
        torch.is_grad_enabled(),
        len(torch.nn.modules.module._global_forward_hooks),
        len(torch.nn.modules.module._global_forward_pre_hooks),
    )


def test_pruning_in_threads_gives_what_it_gives_in_turns() -> None:
    jobs = [(kind, 0) for kind in KINDS]
    MODELS.update({(kind, seed): KINDS[kind][0](seed) for kind, seed in jobs})
    before = _state()
    alone = [_prune(job) for job in jobs]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(_prune, jobs))
    assert _state() == before
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("block", [plain_evaluation, evaluation_mode])
def test_a_block_that_sets_flags_of_the_process_keeps_others_out(block: Callable[..., Any]) -> None:
    model, inside, entered = nn.Linear(2, 2), Event(), Event()

    def other() -> None:
        inside.wait(10)
        with block(nn.Linear(2, 2)):
            entered.set()

    thread = Thread(target=other)
    thread.start()
    with block(model):
        inside.set()
        assert not entered.wait(0.2)
    thread.join(10)
    assert entered.is_set()


class _Paused(nn.Module):
    """Stops in its forward until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.go_on = Event(), Event()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inside.set()
        self.go_on.wait(10)
        return x


def test_a_forward_in_another_thread_is_no_part_of_a_trace() -> None:
    """Hooks of all modules fire in every thread."""
    paused = _Paused()
    model = nn.Sequential(nn.Linear(2, 2), paused)
    thread = Thread(target=paused, args=(torch.zeros(1, 2),))
    stack = [""]
    with module_names(model, stack):
        thread.start()
        paused.inside.wait(10)
        assert stack == [""]
        paused.go_on.set()
        thread.join(10)


class _Counting(nn.Module):
    """A model that changes itself in every forward, in each of the ways that there are."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("replaced", torch.zeros(()))
        self.number = 0
        self.history: list[int] = []
        self.table: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        self._buffers["replaced"] = torch.add(self.get_buffer("replaced"), 1)
        self.number += 1
        self.history.append(len(x))
        if self.table is None:
            self.table = torch.ones(3)
        torch.rand(())
        return self.two(self.one(x).relu()) * self.table


def _draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.mark.parametrize("name", ["analyze", "prune", "trace", "cut", "compare", "evaluate"])
def test_a_call_leaves_the_caller_as_it_was(name: str) -> None:
    torch.manual_seed(0)
    model = _Counting().train()
    data = torch.randn(64, 4)
    labelled = [(data, torch.randint(3, (64,)))]
    graph = tsd.trace(model, data[:1])
    calls: dict[str, Callable[[], Any]] = {
        "analyze": lambda: tsd.analyze(model, data=data, inputs={"example_input": data[:1]}),
        "prune": lambda: tsd.prune(model, data=data, macs=0.6, inputs={"example_input": data[:1]}),
        "trace": lambda: tsd.trace(model, data[:1]),
        "cut": lambda: tsd.cut(model, graph, {graph.groups[0].name: [1, 2]}, data[:1]),
        "compare": lambda: tsd.compare(
            [model, model], data=labelled, inputs={"example_input": data[:1]}, repeats=1
        ),
        "evaluate": lambda: tsd.evaluate(model, labelled, ("top1",)),
    }
    state, flags = {name: value.clone() for name, value in model.state_dict().items()}, _state()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    wanted = _draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    calls[name]()
    assert _draws() == wanted
    assert _state() == flags
    assert model.training
    assert model.number == 0
    assert model.history == []
    assert model.table is None
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
