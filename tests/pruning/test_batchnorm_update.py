from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from tests.alignment.small import Residual, images, residual
from tsdistill.pruning import prune
from tsdistill.pruning.batchnorm_update import match_norms
from tsdistill.tracing import cut, trace


def _outputs(model: nn.Module, name: str, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_hook(lambda _, args, out: seen.append(out))
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[0].transpose(0, 1).flatten(1)


def _cut(model: Residual, x: Tensor, removed: dict[str, list[int]]) -> nn.Module:
    graph = trace(model, x[:1])
    small = cut(model, graph, removed, x[:1]).model
    arrays = {name: np.array(nodes) for name, nodes in removed.items()}
    assert match_norms(model, small, graph, arrays, [(part, None) for part in x.split(40)]) == 3
    return small


def test_norms_give_the_mean_and_variance_that_they_gave() -> None:
    model, x = residual(), images(120)
    small = _cut(model, x, {"stem": [2, 5], "first": [0, 3, 8]})
    stem = [0, 1, 3, 4, 6, 7]
    first = [1, 2, 4, 5, 6, 7, 9, 10, 11]
    for name, kept in (("norm", stem), ("first_norm", first), ("second_norm", stem)):
        was, now = _outputs(model, name, x)[kept], _outputs(small, name, x)
        torch.testing.assert_close(now.mean(1), was.mean(1), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(now.var(1), was.var(1), atol=1e-4, rtol=1e-3)


def test_what_absorbing_has_put_into_the_running_mean_is_not_counted_twice() -> None:
    model, x = residual(), images(300)
    small = prune(model, data=x, budget={"nodes": 0.7}, realignment={"realign": False, "rounds": 1})
    for name in ("norm", "first_norm", "second_norm"):
        was, now = _outputs(model, name, x[:128]), _outputs(small, name, x[:128])
        gaps = (now.mean(1)[:, None] - was.mean(1)[None]).abs() + (
            now.var(1)[:, None] - was.var(1)[None]
        ).abs()
        assert float(gaps.min(1).values.max()) < 1e-3


def test_where_nothing_has_moved_nothing_changes() -> None:
    model, x = residual(), images(60)
    with torch.no_grad():
        model.first.weight[:, 2] = 0
        model.second.weight[:, 4] = 0
        model.head.weight[:, 8:12] = 0
    small = _cut(model, x + 50, {"stem": [2], "first": [4]})
    was, now = model.state_dict(), small.state_dict()
    kept = [0, 1, 3, 4, 5, 6, 7]
    for name in ("norm", "second_norm"):
        torch.testing.assert_close(
            now[f"{name}.running_mean"], was[f"{name}.running_mean"][kept], rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(
            now[f"{name}.running_var"], was[f"{name}.running_var"][kept], rtol=1e-4, atol=1e-4
        )


def test_a_channel_that_does_not_vary_and_a_norm_used_twice_survive() -> None:
    model, x = residual(), images(40)
    with torch.no_grad():
        model.stem.weight[1] = 0
    twice = copy.deepcopy(model)
    twice.second_norm = twice.norm
    for each in (model, twice):
        graph = trace(each, x[:1])
        removed = {"first": [1, 2]} if "first" in graph.by_name else {}
        small = cut(each, graph, removed, x[:1]).model
        arrays = {name: np.array(nodes) for name, nodes in removed.items()}
        match_norms(each, small, graph, arrays, [(x, None)])
        assert all(bool(torch.isfinite(value).all()) for value in small.state_dict().values())
        assert not any(module._forward_pre_hooks for module in small.modules())
    assert torch.equal(small.state_dict()["norm.running_mean"], twice.state_dict()["norm.running_mean"])


def test_squares_beyond_float32_leave_statistics_finite() -> None:
    model, x = residual(), images(60) * 1e25
    small = _cut(model, x, {"stem": [2], "first": [4]})
    for norm in (small.get_submodule(name) for name in ("norm", "first_norm", "second_norm")):
        assert all(bool(torch.isfinite(buffer).all()) for buffer in norm.buffers())
