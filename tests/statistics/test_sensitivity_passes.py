from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from tests.networks import images, mlp, randomise, residual
from tsdistill.alignment import analyze
from tsdistill.statistics.block_sums import BLOCKS, BlockSums
from tsdistill.statistics.observation import observe
from tsdistill.statistics.sensitivity import SiteSensitivity
from tsdistill.statistics.sensitivity_passes import TURNS, SensitivityPasses, StrengthEstimate
from tsdistill.statistics.sites import find_sites
from tsdistill.tracing import trace


def _passes(model: nn.Module, batches: list[Tensor], **how: Any) -> SensitivityPasses:
    sites = find_sites(model, trace(model, batches[0][:1], check=False))
    return SensitivityPasses(model, sites, [(x, None) for x in batches], **how)


def _measured(
    model: nn.Module, batches: list[Tensor], error: float, **how: Any
) -> tuple[SiteSensitivity, StrengthEstimate]:
    """Sensitivities of a judge that always sees the same ``error``, with a target of 0.05."""
    return _passes(model, batches, target=0.05, **how).finish(lambda _: error)


@pytest.mark.parametrize("outputs", [1, 3, 4])
def test_few_outputs_are_derived_one_by_one_and_exactly(outputs: int) -> None:
    model, x = mlp(5, 8, 6, outputs), torch.randn(24, 5)
    found, estimate = _measured(model, list(x.split(10)), 1.0)
    hidden = torch.relu(model[0](x)).detach()
    columns = vmap(jacrev(lambda h: model[4](torch.relu(model[2](h)))))(hidden)
    np.testing.assert_allclose(found.mean["2"], columns.square().sum(1).mean(0).detach(), rtol=1e-5)
    assert (estimate.exact, estimate.outputs) == (True, outputs)
    assert (estimate.samples, estimate.derivatives) == (24, 24 * outputs)


def test_outputs_of_maps_are_derived_exactly_too() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 1, 1, bias=False), nn.AvgPool2d(4))
    randomise(model)
    x = images(6)
    found, estimate = _measured(model, [x], 1.0)
    assert (estimate.exact, estimate.outputs) == (True, 4)
    expected = model[2].weight.detach()[0, :, 0, 0].square() * 64 / 16**2
    np.testing.assert_allclose(found.mean["2"], expected, rtol=1e-5)


def test_samples_are_derived_once_unless_they_are_very_few() -> None:
    model = mlp(5, 8, 50)
    for samples, derivatives in ((100, 100), (64, 64), (40, 80), (10, TURNS * 10)):
        x = torch.randn(samples, 5)
        _, estimate = _measured(model, [x], 0.06)
        assert (estimate.exact, estimate.samples, estimate.derivatives) == (False, derivatives, derivatives)
        _, sure = _measured(model, [x], 0.04)
        _, once = _passes(model, [x]).finish()
        assert (sure.derivatives, once.derivatives, once.target) == (samples, samples, None)


def test_turns_of_following_samples_end_at_the_target_and_at_the_most() -> None:
    model, x = mlp(5, 8, 50), torch.randn(400, 5)
    _, estimate = _measured(model, list(x.split(40)), 0.06, samples=50)
    assert (estimate.samples, estimate.derivatives) == (TURNS * 50, TURNS * 50)
    _, estimate = _measured(model, list(x.split(40)), 0.04, samples=50)
    assert estimate.derivatives == 50


def _runs(model: nn.Module) -> list[list[float]]:
    """The first column of every batch that a model will see."""
    runs: list[list[float]] = []
    model.register_forward_pre_hook(lambda _, args: runs.append(args[0][:, 0].tolist()))
    return runs


def test_further_turns_take_the_samples_that_follow() -> None:
    model = mlp(5, 8, 50)
    numbers = torch.arange(10.0)[:, None].expand(10, 5)
    passes = _passes(model, list(numbers.split(2)), samples=4, target=0.05)
    runs, errors = _runs(model), iter((1.0, 1.0, 0.0))
    passes.finish(lambda _: next(errors))
    assert list(chain.from_iterable(runs)) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_the_first_turn_is_part_of_an_observation(batch: int) -> None:
    """It derives the same samples as a turn of its own would, and further turns go on behind them."""
    model, numbers = mlp(5, 8, 50), torch.arange(12.0)[:, None] + torch.randn(12, 5) / 10
    numbers[:, 0] = torch.arange(12.0)
    batches = list(numbers.split(batch))
    alone, _ = _passes(model, batches, samples=4).finish()
    both = _passes(model, batches, samples=4, target=0.05)
    sites = find_sites(model, trace(model, numbers[:1]))
    observed = observe(model, sites, [(x, None) for x in batches], passes=both)
    plain = observe(model, sites, [(x, None) for x in batches])
    runs = _runs(model)
    once, estimate = both.finish(lambda _: 0.0)
    assert (estimate.derivatives, runs) == (4, [])
    for key, each in plain.covariances.items():
        np.testing.assert_array_equal(each.matrix, observed.covariances[key].matrix)
        np.testing.assert_array_equal(alone.mean[key], once.mean[key])
    errors = iter((1.0, 0.0))
    both.finish(lambda _: next(errors))
    begin = -(-4 // batch) * batch
    assert list(chain.from_iterable(runs)) == list(range(begin, min(begin + 4, 12)))


def test_the_error_of_a_mean_is_as_large_as_the_mean_is_off() -> None:
    """Of 400 estimates about as many lie within one and two standard errors as of a normal distribution."""
    generator = torch.Generator().manual_seed(0)
    away = []
    for _ in range(400):
        sums = BlockSums()
        for first in range(0, 160, 40):
            sums.begin(first, 40)
            sums.add("x", torch.randn(40, 1, generator=generator).square())
        found = sums.finish()
        by_block = found.means["x"]
        away.append(float((found.mean(by_block) - 1)[0] / found.error(by_block)[0]))
    within = [float((np.abs(away) < limit).mean()) for limit in (1, 2)]
    assert within == pytest.approx([0.68, 0.95], abs=0.06)


def test_parts_of_a_sample_count_to_its_block() -> None:
    sums = BlockSums()
    sums.begin(BLOCKS - 1, 2)
    sums.add("x", torch.tensor([[1.0], [2.0], [10.0], [20.0]]))
    found = sums.finish()
    assert found.samples[[0, -1]].tolist() == [1, 1]
    assert found.means["x"][[0, -1], 0].tolist() == [30, 3]
    assert found.mean(found.means["x"]).tolist() == [16.5]


def test_the_stated_error_of_strength_is_the_error_it_has() -> None:
    """Standardised by the stated errors, what is off about a more precise estimate has a size of about 1."""
    model, x = residual(), images(4000)
    found = [
        analyze(model, data=x[start : start + 200], seed=start, analysis={"for_pruning": False})
        for start in (0, 900)
    ]
    exact = analyze(
        model,
        data=x[2000:],
        analysis={"strength_samples": 1000, "strength_target": 1e-9, "for_pruning": False},
    )
    away = [
        (group.strength - better.strength) / group.strength_error
        for report in found
        for group, better in zip(report.groups, exact.groups, strict=True)
    ]
    assert 0.4 < float(np.sqrt(np.mean(np.square(np.concatenate(away))))) < 1.8
    for report in found:
        assert report.strength_estimate.error <= 0.05 or report.notes
    stated = exact.to_dict()["strength_estimate"]
    assert stated["exact"] is False or stated["derivatives"] >= 1000


def test_a_single_sample_knows_nothing_of_its_error() -> None:
    report = analyze(
        mlp(5, 8, 2), data=torch.randn(1, 5), analysis={"for_pruning": False, "strength_samples": 1}
    )
    (group,) = report.groups
    np.testing.assert_array_equal(group.strength_error, group.strength)
    assert report.strength_estimate.exact
