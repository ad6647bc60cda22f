from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap
from torch.nn import functional as F

from tests.networks import images, randomise, residual
from tsdistill.statistics import fan_out as module
from tsdistill.statistics.fan_out import FanOut, FanOutCollector
from tsdistill.statistics.observation import observe
from tsdistill.statistics.prepared_data import prepare
from tsdistill.statistics.sensitivity_passes import SensitivityPasses
from tsdistill.statistics.sites import find_sites
from tsdistill.tracing import trace


def _found(model: nn.Module, x: Any, *, seed: int = 0, **how: Any) -> dict[str, FanOut]:
    prepared = prepare(model, x)
    sites = find_sites(model, trace(model, prepared.example, check=False))
    looking = FanOutCollector(model, sites, seed, prepared.samples)
    covariances = observe(model, sites, prepared, positions=None, around=looking.batch).covariances
    SensitivityPasses(model, sites, prepared, seed=seed, collectors=[looking], **how).finish()
    return looking.finish(covariances)


def _nearby(model: nn.Module, x: Any, seed: int = 0) -> np.ndarray:
    nearby = _found(model, x, seed=seed)["2"].nearby
    assert nearby is not None
    return nearby


def _network(reading: nn.Module, width: int, classes: int = 3) -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), reading, nn.ReLU(), nn.Flatten(), nn.Linear(width, classes)
    )
    randomise(model)
    return model


@pytest.mark.parametrize(
    ("reading", "width"),
    [
        (nn.Conv2d(6, 4, 3, stride=2, padding=1), 64),
        (nn.Conv2d(6, 4, (3, 2), dilation=2, bias=False), 96),
        (nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), 256),
    ],
    ids=str,
)
def test_the_covariance_is_that_of_all_that_kernels_meet(reading: nn.Conv2d, width: int) -> None:
    model, x = _network(reading, width), images(60)
    found = _found(model, x)["2"]
    with torch.no_grad():
        hidden = model[1](model[0](x))
    if reading.padding_mode == "reflect":
        hidden, padding = F.pad(hidden, (1, 1, 1, 1), mode="reflect"), 0
    else:
        padding = int(reading.padding[0])
    met = F.unfold(hidden, reading.kernel_size, reading.dilation, padding, reading.stride)
    rows = met.transpose(1, 2).reshape(-1, met.shape[1]).double().numpy()
    taps = reading.kernel_size[0] * reading.kernel_size[1]
    assert found.taps == taps
    assert found.covariance.rows == len(rows)
    np.testing.assert_allclose(found.covariance.mean, rows.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.covariance.matrix, np.cov(rows.T, bias=True), atol=1e-4)
    np.testing.assert_allclose(found.weight, reading.weight.detach().flatten(1), rtol=1e-6)


def test_entries_of_a_channel_lie_beside_one_another() -> None:
    """A channel that is always 0 has no variance in its own entries, and in no others."""
    model = _network(nn.Conv2d(6, 4, 3), 144)
    with torch.no_grad():
        model[0].weight[4], model[0].bias[4] = 0, -1
    found = _found(model, images(40))["2"]
    assert np.flatnonzero(found.covariance.var == 0).tolist() == list(range(4 * 9, 5 * 9))


def test_a_layer_that_reads_every_channel_once_takes_the_covariance_that_is_there() -> None:
    model, x = residual(), images(40)
    prepared = prepare(model, x)
    sites = find_sites(model, trace(model, prepared.example))
    looking = FanOutCollector(model, sites)
    covariances = observe(model, sites, prepared, around=looking.batch).covariances
    SensitivityPasses(model, sites, prepared, collectors=[looking]).finish()
    found = looking.finish(covariances)
    assert {site: each.taps for site, each in found.items()} == {"first": 9, "second": 1, "head": 1}
    for site in ("second", "head"):
        assert found[site].covariance is covariances[site]
    assert found["head"].weight.shape == (5, 32)


def test_some_positions_estimate_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = _network(nn.Conv2d(6, 4, 3), 144), images(400)
    monkeypatch.setattr(module, "_ROWS", 400 * 36)
    every = _found(model, x)["2"].covariance
    monkeypatch.setattr(module, "_ROWS", 2400)
    monkeypatch.setattr(module, "_ROWS_PER_ENTRY", 1)
    some = _found(model, x)["2"].covariance
    assert (some.rows, every.rows) == (2400, 400 * 36)
    scale = np.sqrt(np.outer(every.var, every.var))
    assert np.abs((some.matrix - every.matrix) / scale).max() < 0.15
    again, other = _found(model, x)["2"].covariance, _found(model, x, seed=1)["2"].covariance
    np.testing.assert_array_equal(again.matrix, some.matrix)
    assert not np.array_equal(other.matrix, some.matrix)


@pytest.mark.parametrize(
    ("reading", "width"),
    [
        (nn.Conv2d(6, 4, 3, stride=2, padding=1), 64),
        (nn.Conv2d(6, 4, (3, 2), dilation=2, bias=False), 96),
        (nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), 256),
    ],
    ids=str,
)
def test_the_correlation_of_taps_is_that_of_all_that_kernels_meet(
    reading: nn.Conv2d, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TAP_ROWS", 10**6)
    monkeypatch.setattr(module, "WIDEST", 0)
    model, x = _network(reading, width), images(60)
    found = _found(model, x)["2"]
    with torch.no_grad():
        hidden = model[1](model[0](x))
    if reading.padding_mode == "reflect":
        hidden, padding = F.pad(hidden, (1, 1, 1, 1), mode="reflect"), 0
    else:
        padding = int(reading.padding[0])
    met = F.unfold(hidden, reading.kernel_size, reading.dilation, padding, reading.stride)
    rows = met.transpose(1, 2).reshape(-1, met.shape[1]).double().numpy()
    taps = reading.kernel_size[0] * reading.kernel_size[1]
    covariance = np.cov(rows.T, bias=True).reshape(6, taps, 6, taps)
    own = np.stack([covariance[channel, :, channel] for channel in range(6)])
    expected = (own / np.trace(own, axis1=1, axis2=2)[:, None, None] * taps).mean(0)
    assert found.nearby is not None
    np.testing.assert_allclose(found.nearby, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found.weight, reading.weight.detach().flatten(1))


def test_some_positions_tell_the_correlation_of_taps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WIDEST", 0)
    model, x = _network(nn.Conv2d(6, 4, 3), 144), images(400)
    some, again, other = (_nearby(model, x, seed) for seed in (0, 0, 1))
    monkeypatch.setattr(module, "_TAP_ROWS", 10**6)
    assert np.abs(some - _nearby(model, x)).max() < 0.1
    np.testing.assert_array_equal(again, some)
    assert not np.array_equal(other, some)


@pytest.mark.parametrize("steady", [False, True])
def test_the_gram_is_the_covariance_of_what_the_output_makes_of_the_channels(
    steady: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact where positions are independent of each other, and where they are all the same."""
    monkeypatch.setattr(module, "WIDEST", 0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(4 * 16, 5)
    )
    randomise(model)
    x = images(1500, side=6)
    x = x[:, :, :1, :1].expand_as(x).contiguous() if steady else x
    found = _found(model, x, samples=1500)["2"]
    with torch.no_grad():
        hidden = model[1](model[0](x))
        covariance = np.cov(hidden.transpose(0, 1).flatten(1).numpy())
        read = F.conv2d(hidden, model.get_parameter("2.weight"))
        outputs = np.cov(read.transpose(0, 1).flatten(1).numpy())
    caused = np.trace(found.gram(np.eye(6)) @ covariance)
    assert caused == pytest.approx(np.trace(found.beta @ outputs), rel=0.1)


def test_a_channel_that_is_always_0_says_nothing_of_the_taps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WIDEST", 0)
    model = _network(nn.Conv2d(6, 4, 3), 144)
    with torch.no_grad():
        model[0].weight[4], model[0].bias[4] = 0, -1
    nearby = _nearby(model, images(40))
    assert np.diag(nearby).mean() == pytest.approx(1)
    with torch.no_grad():
        nn.init.constant_(model.get_parameter("0.weight"), 0)
        nn.init.constant_(model.get_parameter("0.bias"), -1)
    np.testing.assert_array_equal(_nearby(model, images(40)), np.eye(9))


def test_beta_is_the_second_moment_of_the_output_s_derivative() -> None:
    model, x = _network(nn.Conv2d(6, 4, 3, stride=2), 36, classes=2).double(), images(16).double()
    found = _found(model, [x] * 300, samples=16 * 300)
    with torch.no_grad():
        read = model[2](model[1](model[0](x)))
    rest = nn.Sequential(*list(model)[3:])
    derivative = vmap(jacrev(lambda y: rest(y[None])[0]))(read).detach().flatten(3)
    expected = torch.einsum("nkop,nkqp->oq", derivative, derivative) / len(x)
    np.testing.assert_allclose(found["2"].beta, expected, atol=0.06 * float(expected.max()))
    assert float(expected.diagonal().min()) > 0.2 * float(expected.max())
    np.testing.assert_allclose(found["5"].beta, np.eye(2), atol=0.06)


def test_beta_runs_through_the_layer_only_not_through_the_skip() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.write, self.read, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.write(x)
            return self.head(h + self.read(h))

    model, x = Skip(), torch.randn(64, 3)
    beta = _found(model, [x] * 60, samples=64 * 60)["read"].beta
    through = (model.head.weight.T @ model.head.weight).detach().numpy()
    np.testing.assert_allclose(beta, through, atol=0.12 * through.max())


def test_only_the_first_samples_tell_beta() -> None:
    model, x = _network(nn.Conv2d(6, 4, 3), 144), images(64)
    few = _found(model, x, samples=40)["2"].beta
    other = torch.cat([x[:40], 9 * images(24, seed=7)])
    np.testing.assert_allclose(_found(model, other, samples=40)["2"].beta, few, rtol=1e-6)
    assert not np.allclose(_found(model, x)["2"].beta, few)


def _flattened() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 70, 1), nn.ReLU(), nn.Flatten(), nn.Linear(70 * 64, 3))
    randomise(model)
    return model


def test_sites_of_other_layers_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)

    x = images(12)
    assert set(_found(_network(nn.Conv2d(6, 4, 3), 144), x)) == {"2", "5"}
    assert set(_found(_network(nn.Conv2d(6, 4, 3, groups=2), 144), x)) == {"5"}
    assert set(_found(_network(Standardised(6, 4, 3), 144), x)) == {"5"}
    assert _found(_flattened(), x) == {}
    monkeypatch.setattr(module, "WIDEST", 53)
    wide = _found(_network(nn.Conv2d(6, 4, 3), 144), x)
    assert {key: each.nearby is not None for key, each in wide.items()} == {"2": True, "5": False}
    monkeypatch.setattr(module, "_MOST_OUTPUTS", 3)
    assert set(_found(_network(nn.Conv2d(6, 4, 1), 256), x)) == {"5"}
    assert set(_found(_network(nn.Conv2d(6, 4, 1), 256, classes=4), x)) == set()


def test_activations_in_place_make_no_difference() -> None:
    x, found = images(12), {}
    for in_place in (False, True):
        convolutions = [
            each
            for width in (3, 6, 6)
            for each in (nn.Conv2d(width, 6, 3, bias=False), nn.ReLU(inplace=in_place))
        ]
        model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(24, 3))
        randomise(model)
        found[in_place] = _found(model, x)
    assert set(found[True]) == set(found[False]) == {"2", "4", "7"}
    for site, each in found[True].items():
        np.testing.assert_allclose(each.beta, found[False][site].beta, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            each.covariance.matrix, found[False][site].covariance.matrix, rtol=1e-4, atol=1e-6
        )


def test_the_model_is_left_as_it_was() -> None:
    model, x = residual(), images(20)
    model.head.weight.grad = torch.full_like(model.head.weight, 7.0)
    state = copy.deepcopy(model.state_dict())
    drawn = torch.get_rng_state()
    told: list[tuple[str, int, int | None]] = []
    _found(model.train(), x, progress=lambda *what: told.append(what))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert bool((model.head.weight.grad == 7).all())
    assert model.stem.weight.grad is None
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert told[-1] == ("strength on samples", 20, 20)
