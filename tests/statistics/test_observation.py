from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from tests.networks import images, mlp, randomise, residual
from tsdistill.alignment.metrics.correlation import Correlation
from tsdistill.errors import TsdistillError
from tsdistill.statistics.observation import Observation, ObservedTeacher, observe
from tsdistill.statistics.sites import ModelSites, find_sites
from tsdistill.tracing import trace


def _sites(model: nn.Module, example: Tensor) -> ModelSites:
    return find_sites(model, trace(model, example, check=False))


def _batches(x: Tensor, size: int = 16) -> list[tuple[Tensor, None]]:
    return [(part, None) for part in x.split(size)]


def _inputs(model: nn.Module, name: str, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[0]


def test_covariances_equal_those_of_stored_activations() -> None:
    model, x = residual(), images(40)
    found = observe(model, _sites(model, x[:1]), _batches(x), positions=None)
    assert found.samples == 40
    for name in ("first", "second"):
        stored = _inputs(model, name, x).permute(1, 0, 2, 3).flatten(1).double().numpy()
        np.testing.assert_allclose(found.covariances[name].matrix, np.cov(stored, bias=True), atol=1e-5)
        np.testing.assert_allclose(found.covariances[name].mean, stored.mean(1), atol=1e-5)


def test_a_subset_of_positions_estimates_the_same() -> None:
    model, x = residual(), images(300)
    sites = _sites(model, x[:1])
    whole = observe(model, sites, _batches(x), positions=None).covariances["first"].matrix
    part = observe(model, sites, _batches(x), positions=16).covariances["first"]
    assert part.rows == 300 * 16
    scale = np.sqrt(np.outer(np.diag(whole), np.diag(whole)))
    assert np.max(np.abs((part.matrix - whole) / scale)) < 0.08


def test_layers_that_read_the_same_tensor_share_one_covariance() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.write, self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.write(x))
            return self.a(h) + self.b(h) * self.a(h.clone())

    model, x = Twice(), torch.randn(30, 4)
    found = observe(model, _sites(model, x[:1]), _batches(x)).covariances
    assert found["b"] is found["a"]
    assert found["a"].rows == 60


def test_the_model_and_its_hooks_are_as_before() -> None:
    model, x = residual(), images(8)
    model.train()
    model.norm.eval()
    model.stem.weight.requires_grad_(False)
    state = copy.deepcopy(model.state_dict())
    sites = _sites(model, x[:1])
    observe(model, sites, _batches(x), teacher=ObservedTeacher(model, sites, {"stem": "stem"}))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model.training
    assert not model.norm.training
    assert not model.stem.weight.requires_grad
    assert model.head.weight.requires_grad
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_pair_moments_equal_correlations_of_stored_activations(offset: float) -> None:
    student, teacher, x = mlp(6, 20, 3, seed=1), mlp(6, 9, 3, seed=2), torch.randn(500, 6)
    student.get_parameter("0.bias").data += offset
    mine, theirs = _sites(student, x[:1]), _sites(teacher, x[:1])
    found = observe(
        student, mine, _batches(x, 64), teacher=ObservedTeacher(teacher, theirs, {"0": "0"})
    ).pairs["0"]
    s = _inputs(student, "2", x).double().numpy()
    t = _inputs(teacher, "2", x).double().numpy()
    reference = np.corrcoef(s.T, t.T)[:20, 20:]
    alive = (s.std(0) > 0)[:, None] & (t.std(0) > 0)[None]
    np.testing.assert_allclose(Correlation().from_moments(found).numpy()[alive], reference[alive], atol=1e-5)
    np.testing.assert_allclose(found.mean_s(), s.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.var_t(), t.var(0), rtol=1e-4, atol=1e-9)


def test_pairs_of_maps_see_the_same_positions_and_pool_to_the_coarser() -> None:
    x = images(20)

    class Net(nn.Module):
        def __init__(self, stride: int) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 2, 1)
            self.stride = stride

        def forward(self, x: Tensor) -> Tensor:
            return self.b(nn.functional.avg_pool2d(self.a(x), self.stride)).mean((2, 3))

    fine, coarse = Net(1), Net(2)
    coarse.load_state_dict(fine.state_dict())
    found = observe(
        fine,
        _sites(fine, x[:1]),
        _batches(x),
        teacher=ObservedTeacher(coarse, _sites(coarse, x[:1]), {"a": "a"}),
        positions=7,
    )
    table = Correlation().from_moments(found.pairs["a"])
    assert found.pairs["a"].n == 20 * 7
    torch.testing.assert_close(table.diagonal(), torch.ones(5, dtype=torch.float64), atol=1e-5, rtol=0)


def test_activations_that_are_not_finite_name_the_layer() -> None:
    model, x = mlp(4, 5, 5, 2), torch.ones(4, 4)
    model[2].weight.data[0] = 3e38
    model.get_parameter("0.bias").data += 1e9
    with pytest.raises(TsdistillError, match=r"layer '2' .*batch 0"):
        observe(model, _sites(model, torch.zeros(1, 4)), _batches(x))


def test_data_that_do_not_fit_or_are_missing_are_one_line() -> None:
    model = mlp(4, 5, 2)
    sites = _sites(model, torch.zeros(1, 4))
    with pytest.raises(TsdistillError, match=r"\(3, 7\)"):
        observe(model, sites, [(torch.zeros(3, 7), None)])
    with pytest.raises(TsdistillError, match="no samples"):
        observe(model, sites, [])


def _pair(student: nn.Module, teacher: nn.Module, x: Tensor, **options: Any) -> Observation:
    mine, theirs = _sites(student, x[:1].to(_dtype(student))), _sites(teacher, x[:1].to(_dtype(teacher)))
    pairs = {name: name for name in mine.readings}
    beside = ObservedTeacher(teacher, theirs, pairs)
    return observe(student, mine, _batches(x), teacher=beside, keys=(), **options)


def _dtype(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


def _tables(found: Observation) -> dict[str, np.ndarray]:
    return {name: Correlation().from_moments(moments).numpy() for name, moments in found.pairs.items()}


def test_channels_last_models_give_the_same_numbers() -> None:
    student, teacher, x = residual(1), residual(2), images(40)
    plain = _tables(_pair(student, teacher, x))
    last = x.to(memory_format=torch.channels_last)
    student.to(memory_format=torch.channels_last)
    found = _tables(_pair(student, teacher, last))
    for name, table in plain.items():
        np.testing.assert_allclose(found[name], table, atol=1e-5)


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_half_precision_models_give_the_same_numbers(precision: torch.dtype, tolerance: float) -> None:
    student, teacher, x = residual(1), residual(2), images(200)
    exact = _tables(_pair(student, teacher, x, positions=None))
    half = _tables(_pair(copy.deepcopy(student).to(precision), teacher, x, positions=None))
    for name, table in exact.items():
        np.testing.assert_allclose(half[name], table, atol=tolerance)


def test_heads_of_attention_are_compared_over_all_their_channels() -> None:
    teacher, student = (timm_model(seed) for seed in (0, 1))
    x = torch.randn(24, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = _pair(student, teacher, x, positions=None)
    name = "blocks.0.attn.qkv"
    s, t = (_inputs(model, "blocks.0.attn.proj", x) for model in (student, teacher))
    s, t = (h.unflatten(-1, (3, -1)).movedim(-2, 0).flatten(1).double().numpy() for h in (s, t))
    reference = np.corrcoef(s, t)[:3, 3:]
    np.testing.assert_allclose(_tables(found)[name], reference, atol=1e-5)
    assert found.pairs[name].n == 24 * 17 * 64


def timm_model(seed: int) -> nn.Module:
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=1, num_classes=3)
    return randomise(model, seed)


def test_listeners_see_the_rows_and_a_model_beside_itself_runs_once() -> None:
    model, x = residual(), images(40)
    sites = _sites(model, x[:1])
    rows: list[tuple[Tensor, Tensor]] = []
    calls = []
    handle = model.stem.register_forward_hook(lambda *_: calls.append(1))
    found = observe(
        model,
        sites,
        _batches(x),
        teacher=ObservedTeacher(
            model, sites, {"stem": "stem"}, listeners={"stem": [lambda s, t: rows.append((s, t))]}
        ),
        keys=(),
        positions=None,
    )
    handle.remove()
    assert len(calls) == 3 + 2
    assert all(s.shape == t.shape for s, t in rows)
    assert sum(len(s) for s, _ in rows) == found.pairs["stem"].n
    assert torch.equal(torch.cat([s for s, _ in rows]), torch.cat([t for _, t in rows]))


def test_a_layer_read_more_often_in_one_model_is_paired_by_its_last_calls() -> None:
    class Loop(nn.Module):
        def __init__(self, times: int) -> None:
            super().__init__()
            self.write, self.read, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)
            self.times = times

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.write(x))
            for _ in range(self.times):
                h = torch.relu(self.read(h))
            return self.head(h)

    once, twice = Loop(1), Loop(2)
    twice.load_state_dict(once.state_dict())
    x = torch.randn(50, 4)
    mine, theirs = _sites(twice, x[:1]), _sites(once, x[:1])
    name = next(name for name, readings in mine.readings.items() if readings)
    found = observe(twice, mine, _batches(x), teacher=ObservedTeacher(once, theirs, {name: name}), keys=())
    assert found.pairs[name].n == 50


def test_activations_that_change_in_place_afterwards_are_kept_as_they_were() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.write, self.read, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.write(x)
            y = self.read(h)
            h.mul_(-3)
            return self.head(y)

    student, teacher, x = InPlace(), InPlace(), torch.randn(60, 4)
    mine, theirs = (find_sites(model, trace(model, x[:1], check=False)) for model in (student, teacher))
    name = next(iter(name for name, readings in mine.readings.items() if readings[-1].site == "read"))
    found = observe(
        student, mine, _batches(x), teacher=ObservedTeacher(teacher, theirs, {name: name}), keys=()
    )
    s, t = (model.write(x).detach().double().numpy() for model in (student, teacher))
    np.testing.assert_allclose(_tables(found)[name], np.corrcoef(s.T, t.T)[:6, 6:], atol=1e-5)


def test_progress_is_told_and_time_is_counted() -> None:
    student, x = residual(), images(40)
    told: list[tuple[str, int, int | None]] = []
    found = observe(student, _sites(student, x[:1]), _batches(x), progress=lambda *said: told.append(said))
    assert told == [("observing samples", done, None) for done in (0, 16, 32, 40)]
    assert found.seconds["forward"] > 0
    assert found.seconds["covariances"] > 0
    assert found.seconds["moments"] == 0


def test_activations_that_are_not_finite_and_do_not_reach_the_output_name_the_layer() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nan_to_num(self.last(self.first(x)))

    model, x = Masked(), torch.randn(8, 4)
    sites = _sites(model, x[:1])
    with torch.no_grad():
        model.first.bias[0] = torch.nan
    with pytest.raises(TsdistillError, match="layer 'last' "):
        observe(model, sites, _batches(x))
