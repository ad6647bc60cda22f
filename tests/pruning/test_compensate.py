from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.networks import Residual, images, mlp, randomise, residual
from tsdistill.pruning import prune
from tsdistill.pruning.compensate import ReadingWeight, compensate, match_norms, predict
from tsdistill.statistics.covariance import Covariance, RunningCovariance
from tsdistill.statistics.observation import Observation, observe
from tsdistill.statistics.redundancy import relations
from tsdistill.statistics.sites import ModelSites, find_sites
from tsdistill.tracing import cut, trace


def _covariance(x: Tensor) -> Covariance:
    running = RunningCovariance()
    running.update(x)
    return running.finish()


def test_prediction_equals_direct_ridge_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40_000, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 3
    covariance = _covariance(x)
    removed, kept = np.array([1, 4]), np.array([5, 0, 2, 3])
    for constant in (True, False):
        found = predict(covariance, relations(covariance), removed, kept, constant=constant)
        wide = x.double().numpy()
        a, b = wide[:, kept], wide[:, removed]
        mean_a, mean_b = (a.mean(0), b.mean(0)) if constant else (0 * a.mean(0), 0 * b.mean(0))
        a, b = a - mean_a, b - mean_b
        scale = (a**2).mean(0)
        direct = np.linalg.solve(a.T @ a / 40_000 + 1e-3 * np.diag(scale), a.T @ b / 40_000).T
        np.testing.assert_allclose(found.matrix, direct, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found.constant, mean_b - direct @ mean_a, atol=1e-3)


def test_multiples_and_constants_are_predicted_exactly() -> None:
    x = torch.randn(500, 5, generator=torch.Generator().manual_seed(1))
    x[:, 1], x[:, 2], x[:, 4] = -2 * x[:, 0], 6.5, 0
    covariance = _covariance(x)
    found = predict(covariance, relations(covariance), np.array([1, 2, 4]), np.array([3, 0]))
    np.testing.assert_allclose(found.matrix, [[0, -2], [0, 0], [0, 0]], atol=1e-7)
    np.testing.assert_allclose(found.constant, [0, 6.5, 0], atol=1e-6)
    other_way = predict(covariance, relations(covariance), np.array([0]), np.array([1, 3]))
    np.testing.assert_allclose(other_way.matrix, [[-0.5, 0]], atol=1e-7)


def test_nothing_left_to_predict_from_leaves_the_mean() -> None:
    x = torch.randn(500, 2) + 4
    covariance = _covariance(x)
    found = predict(covariance, relations(covariance), np.array([0, 1]), np.zeros(0, dtype=int))
    assert found.matrix.shape == (2, 0)
    np.testing.assert_allclose(found.constant, covariance.mean)


def _observed(model: nn.Module, x: Tensor) -> tuple[ModelSites, Observation]:
    sites = find_sites(model, trace(model, x[:1]))
    return sites, observe(model, sites, [(x, None)], positions=None)


def _pruned(model: nn.Module, x: Tensor, removed: dict[str, list[int]], absorbing: bool = True) -> nn.Module:
    whole = copy.deepcopy(model)
    if absorbing:
        sites, observed = _observed(model, x)
        arrays = {name: np.array(nodes) for name, nodes in removed.items()}
        assert compensate(whole, sites, observed, arrays, x[:1]) == ()
    done = cut(whole, trace(whole, x[:1]), removed, x[:1])
    assert not done.put_back
    return done.model


def _gap(model: nn.Module, other: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((model(x) - other(x)).square().mean() / model(x).var(0).mean())


def test_the_reader_s_weights_are_the_best_for_what_is_left() -> None:
    model, x = mlp(5, 9, 4), torch.randn(3000, 5)
    small = _pruned(model, x, {"0": [1, 6]})
    kept = [0, 2, 3, 4, 5, 7, 8]
    hidden = torch.relu(model[0](x)).detach()
    design = torch.cat([hidden[:, kept], torch.ones(3000, 1)], 1).double()
    best = torch.linalg.lstsq(design, model(x).detach().double()).solution
    found = torch.cat([small[2].weight.detach().T, small[2].bias.detach()[None]]).double()
    error = (design @ found - model(x)).square().mean()
    least = (design @ best - model(x)).square().mean()
    assert least <= error <= 1.02 * least
    assert _gap(model, small, x) < 0.5 * _gap(model, _pruned(model, x, {"0": [1, 6]}, False), x)


def test_it_helps_through_norms_streams_flattening_and_padding() -> None:
    model, x = residual(), images(400)
    removed = {"stem": [2, 5], "first": [0, 3, 8]}
    assert _gap(model, _pruned(model, x, removed), x) < 0.7 * _gap(
        model, _pruned(model, x, removed, False), x
    )


def test_zero_fan_out_dead_and_duplicate_nodes_leave_the_function_unchanged() -> None:
    model, x = residual(), images(64)
    with torch.no_grad():
        model.first.weight[:, 1] = 0
        model.head.weight[:, 4:8] = 0
        model.norm.weight[2], model.norm.bias[2] = 0, -3
        model.second_norm.weight[2], model.second_norm.bias[2] = 0, -1
        for layer, norm in ((model.stem, model.norm), (model.second, model.second_norm)):
            layer.weight[6] = layer.weight[4]
            norm.weight[6], norm.bias[6] = 2.5 * norm.weight[4], 2.5 * norm.bias[4]
            norm.running_mean[6], norm.running_var[6] = norm.running_mean[4], norm.running_var[4]
        model.first.weight[9] = 3 * model.first.weight[7]
        model.first_norm.weight[9] = model.first_norm.weight[7]
        model.first_norm.bias[9] = model.first_norm.bias[7]
        model.first_norm.running_mean[9] = 3 * model.first_norm.running_mean[7]
        model.first_norm.running_var[9] = 9 * model.first_norm.running_var[7]
        model.first_norm.eps = 0.0
    for removed in ({"stem": [1, 2, 6], "first": [9]}, {"stem": [4], "first": [7]}):
        small, fresh = _pruned(model, x, removed), images(50, seed=9)
        with torch.no_grad():
            torch.testing.assert_close(small(fresh), model(fresh), atol=2e-5, rtol=1e-5)
    with torch.no_grad():
        assert _gap(model, _pruned(model, x, {"stem": [4]}, False), x) > 1e-3


def test_a_constant_goes_into_the_bias_or_the_running_mean() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 5, 3, bias=False), nn.BatchNorm2d(5), nn.Conv2d(5, 4, 1)
    )
    randomise(model)
    with torch.no_grad():
        model[0].weight[2], model[0].bias[2] = 0, 2
    x = images(30)
    small = _pruned(model, x, {"0": [2]})
    with torch.no_grad():
        torch.testing.assert_close(small(x), model(x), atol=1e-4, rtol=1e-4)
    assert not torch.equal(small.state_dict()["3.running_mean"], model.state_dict()["3.running_mean"])


def test_without_a_place_for_constants_the_prediction_goes_through_the_origin() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4, bias=False), nn.LayerNorm(4))
    randomise(model)
    x = torch.randn(2000, 5)
    small = _pruned(model, x, {"0": [0, 3]})
    assert small[2].bias is None
    hidden = torch.relu(model[0](x)).detach()
    design = hidden[:, [1, 2, 4, 5, 6, 7]].double()
    target = model[2](hidden).detach().double()
    best = design @ torch.linalg.lstsq(design, target).solution
    with torch.no_grad():
        error = (design @ small[2].weight.T.double() - target).square().mean()
    assert error <= 1.05 * (best - target).square().mean()


def test_a_grouped_convolution_absorbs_within_its_groups() -> None:
    grouped = nn.Conv2d(8, 6, 3, groups=2)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), grouped, nn.ReLU(), nn.Conv2d(6, 2, 1))
    randomise(model)
    x = images(300)
    graph = trace(model, x[:1])
    group = graph.groups[0]
    removed = {group.name: [1]}
    assert _gap(model, _pruned(model, x, removed), x) < _gap(model, _pruned(model, x, removed, False), x)
    whole = copy.deepcopy(model)
    sites, observed = _observed(model, x)
    compensate(whole, sites, observed, {group.name: np.array([1])}, x[:1])
    gone = sorted(group.readers[0].coords[1].tolist())
    for block in range(2):
        channels = [c for c in range(4 * block, 4 * block + 4) if c not in gone]
        hidden = torch.relu(model[0](x)).detach().movedim(1, -1).reshape(-1, 8).double()
        design = torch.cat([hidden[:, channels], torch.ones(len(hidden), 1)], 1)
        for channel in [c for c in gone if c // 4 == block]:
            best = torch.linalg.lstsq(design, hidden[:, channel : channel + 1]).solution[:-1, 0]
            rows = slice(3 * block, 3 * block + 3)
            local = [c - 4 * block for c in channels]
            change = (whole[2].weight - model[2].weight).detach()[rows][:, local].double()
            column = model[2].weight.detach()[rows, channel - 4 * block].double()
            expected = torch.einsum("oxy,k->okxy", column, best)
            torch.testing.assert_close(change, expected, atol=0.01, rtol=0.05)


@pytest.mark.parametrize("side", [7, 8])
def test_a_wide_flattened_map_shares_one_prediction(side: int) -> None:
    channels = 80 if side == 8 else 100

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, channels, 1)
            self.head = nn.Linear(channels * side**2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.conv(x)).flatten(1))

    model = Flat()
    randomise(model)
    x = images(120, side=side)
    removed = {"conv": list(range(0, channels, 2))}
    assert _gap(model, _pruned(model, x, removed), x) < 0.1 * _gap(
        model, _pruned(model, x, removed, False), x
    )


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(6, 4), torch.randn(3, 6)),
        (nn.Conv2d(6, 4, 3), torch.randn(2, 6, 5, 5)),
        (nn.Conv2d(6, 4, 3, groups=2), torch.randn(2, 6, 5, 5)),
        (nn.ConvTranspose2d(6, 4, 3, groups=2), torch.randn(2, 6, 5, 5)),
        (nn.Conv1d(6, 4, 2), torch.randn(2, 6, 5)),
    ],
)
def test_blocks_address_outputs_and_inputs_of_any_layer(layer: nn.Module, x: Tensor) -> None:
    weight = ReadingWeight(layer)
    groups, outputs, inputs, _ = weight.blocks.shape
    assert groups * inputs == 6
    before = layer(x)
    weight.write()
    assert torch.equal(layer(x), before)
    weight.blocks[-1, :, inputs - 1] = 0
    weight.write()
    without = x.clone()
    without[:, 5] = 0
    reference = layer(without)
    torch.testing.assert_close(layer(x), reference)
    weight.blocks[:, outputs - 1] = 0
    weight.write()
    silent = layer(x).movedim(1, -1).reshape(-1, 4)[:, 3]
    bias = layer.bias[3].expand_as(silent)
    torch.testing.assert_close(silent, bias)


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
