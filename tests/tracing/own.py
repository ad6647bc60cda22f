"""What every test of the user's own modules asks of one: cut, compared, pruned, saved and loaded again."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tsdistill as tsd
from tests.tracing.networks import randomise
from tsdistill.runtime.modes import run
from tsdistill.tracing import NodeGraph, trace
from tsdistill.tracing.replay import CutRun

MODULES = "tests.tracing.own_modules"


def built(name: str) -> nn.Module:
    """The module of that name in ``own_modules``, every parameter of it at a value that shows faults."""
    torch.manual_seed(0)
    return randomise(tsd.load(f"{MODULES}:{name}"))


def halved(model: nn.Module, x: Any, seed: int = 0) -> tuple[NodeGraph, Any]:
    """The graph of ``model`` and a cut of a random half of every group, which must all go."""
    graph = trace(model, x)
    generator = torch.Generator().manual_seed(seed)
    removed = {
        g.name: torch.randperm(g.size, generator=generator)[: g.size // 2].tolist() for g in graph.groups
    }
    done = tsd.cut(model, graph, removed, x)
    assert not done.put_back
    return graph, done


def blanked(model: nn.Module, graph: NodeGraph, removed: Any) -> nn.Module:
    """A copy of ``model`` with every coordinate of the removed nodes at zero (running variances at one)."""
    twin = copy.deepcopy(model)
    tensors = dict([*twin.named_parameters(), *twin.named_buffers()])
    with torch.no_grad():
        for name, nodes in removed.items():
            for slot in graph.by_name[name].slots:
                where = torch.as_tensor(slot.coords[nodes].reshape(-1))
                tensors[slot.param].index_fill_(slot.dim, where, float(slot.param.endswith("running_var")))
    return twin


def reloaded(model: nn.Module, folder: Path) -> nn.Module:
    """``model`` after a way through a file; the user's own code is named again."""
    arch = tsd.info_of(model).arch
    tsd.save(model, folder / "small.safetensors")
    return tsd.load(folder / "small.safetensors", arch=arch)


def same(one: nn.Module, other: nn.Module, x: Any) -> bool:
    """Whether two models give the same, bit for bit."""
    with torch.no_grad():
        return all(torch.equal(a, b) for a, b in zip(run(one, x), run(other, x), strict=True))


def counted_replays(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that grows by an entry with every replay that the repair of a cut runs."""
    calls: list[Any] = []

    def counting(cut_run: CutRun, **options: Any) -> Any:
        calls.append(cut_run)
        return original(cut_run, **options)

    original = CutRun.replay
    monkeypatch.setattr(CutRun, "replay", counting)
    return calls
