from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.alignment.metrics.stored import moments, orthogonal, related, scales, seeds
from tsdistill.alignment.metrics.subspaces import CCA, SVCCA, LinearCKA

METRICS = (LinearCKA(), CCA(), SVCCA())


def _gram_cka(s: Tensor, t: Tensor) -> float:
    """Linear CKA from the Gram matrices of the samples."""
    s, t = s - s.mean(0), t - t.mean(0)
    left, right = s @ s.T, t @ t.T
    return float((left * right).sum() / (left.norm() * right.norm()))


def _cosines(s: Tensor, t: Tensor) -> Tensor:
    """Cosines of the principal angles between the columns' spans, from orthonormal bases of the samples."""
    bases = []
    for side in (s, t):
        left, values, _ = torch.linalg.svd(side - side.mean(0), full_matrices=False)
        bases.append(left[:, values > 1e-4 * values[0]])
    return torch.linalg.svdvals(bases[0].T @ bases[1])


def _principal(side: Tensor) -> Tensor:
    """The samples on the fewest principal directions that hold 99 % of the variance."""
    left, values, _ = torch.linalg.svd(side - side.mean(0), full_matrices=False)
    power = values.square().cumsum(0) / values.square().sum()
    count = int((power < 0.99).sum()) + 1
    return left[:, :count] * values[:count]


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_the_figures_equal_those_of_the_stored_activations(seed: int) -> None:
    s, t = related(seed)
    held = moments(s, t)
    assert float(LinearCKA().from_moments(held)) == pytest.approx(_gram_cka(s, t), abs=1e-10)
    assert float(CCA().from_moments(held)) == pytest.approx(float(_cosines(s, t).mean()), abs=1e-9)
    reduced = float(_cosines(_principal(s), _principal(t)).mean())
    assert float(SVCCA().from_moments(held)) == pytest.approx(reduced, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_one_figure_in_range_the_same_from_both_sides(seed: int) -> None:
    s, t = related(seed)
    for metric in METRICS:
        figure = metric.from_moments(moments(s, t))
        assert figure.shape == ()
        assert 0 <= float(figure) <= 1
        torch.testing.assert_close(metric.from_moments(moments(t, s)), figure)
        assert float(metric.from_moments(moments(s, s))) == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(1e-3, 1e3), st.permutations(range(5)))
def test_orthogonal_maps_isotropic_scaling_and_shifts_change_nothing(
    seed: int, factor: float, order: list[int]
) -> None:
    s, t = related(seed)
    turned = factor * (s @ orthogonal(seed + 1, 5))[:, order] + 3
    for metric in METRICS:
        before = metric.from_moments(moments(s, t))
        torch.testing.assert_close(metric.from_moments(moments(turned, t)), before, atol=1e-8, rtol=0)


@settings(max_examples=20, deadline=None)
@given(seeds, scales)
def test_cca_is_the_same_under_any_invertible_affine_map(seed: int, factors: list[float]) -> None:
    s, t = related(seed)
    spread = torch.tensor(factors, dtype=torch.float64)
    mapped = (s @ orthogonal(seed + 1, 5)) * (1 + spread / 10) @ orthogonal(seed + 2, 5) * spread - 1
    before, after = (CCA().from_moments(moments(side, t)) for side in (s, mapped))
    torch.testing.assert_close(after, before, atol=1e-7, rtol=0)


def test_cka_weighs_nodes_by_their_variance() -> None:
    s, t = related(0)
    louder = s * torch.tensor([100.0, 1, 1, 1, 1])
    assert abs(float(LinearCKA().from_moments(moments(louder, t))) - _gram_cka(s, t)) > 0.05
    alone = _gram_cka(s[:, :1], t)
    assert float(LinearCKA().from_moments(moments(louder, t))) == pytest.approx(alone, abs=1e-3)


def test_dead_and_duplicate_nodes_are_no_directions() -> None:
    s, t = related(1)
    constant = torch.full((len(s), 1), 1e6, dtype=torch.float64)
    wobble = constant * (1 + 1e-8 * torch.randn(len(s), 1, generator=torch.Generator().manual_seed(0)))
    with_dead = torch.cat([s, 0 * constant, constant, wobble], 1)
    for metric in METRICS:
        before = metric.from_moments(moments(s, t))
        torch.testing.assert_close(metric.from_moments(moments(with_dead, t)), before, atol=1e-9, rtol=0)
        assert float(metric.from_moments(moments(constant, t))) == 0
        assert float(metric.from_moments(moments(t, constant))) == 0
    doubled = torch.cat([s, 2 * s[:, :2], s[:, :1] + s[:, 1:2]], 1)
    before = CCA().from_moments(moments(s, t))
    torch.testing.assert_close(CCA().from_moments(moments(doubled, t)), before, atol=1e-9, rtol=0)


def test_directions_that_float32_products_cannot_resolve_are_left_out() -> None:
    generator = torch.Generator().manual_seed(3)
    decay = torch.arange(1, 65, dtype=torch.float64) ** -2.5
    hidden = torch.randn(4096, 64, generator=generator, dtype=torch.float64) * decay
    s, t = hidden @ orthogonal(4, 64), hidden @ orthogonal(5, 64) + 1
    for metric in METRICS:
        exact = float(metric.from_moments(moments(s, t)))
        streamed = float(metric.from_moments(moments(s, t, torch.float32)))
        assert streamed == pytest.approx(exact, abs=1e-3)


def test_too_few_samples_are_said_to_be_too_few() -> None:
    generator = torch.Generator().manual_seed(0)
    s, t = torch.randn(30, 10, generator=generator), torch.randn(30, 10, generator=generator)
    for metric in (CCA(), SVCCA()):
        assert math.isnan(float(metric.from_moments(moments(s[:12], t[:12]))))
        assert 0 < float(metric.from_moments(moments(s, t))) < 1
    assert float(_cosines(s[:18].double(), t[:18].double())[1]) == pytest.approx(1)
    assert float(_cosines(s.double(), t.double())[0]) < 0.99


def test_unrelated_groups_have_the_chance_level_that_is_documented() -> None:
    generator = torch.Generator().manual_seed(1)
    s, t = torch.randn(2001, 40, generator=generator), torch.randn(2001, 20, generator=generator)
    chance = math.sqrt(40 / 2000)
    assert 0.85 * chance < float(CCA().from_moments(moments(s, t))) < chance


def test_svcca_needs_fewer_samples_than_cca() -> None:
    generator = torch.Generator().manual_seed(2)
    few = torch.randn(60, 3, generator=generator)
    s = few @ torch.randn(3, 40, generator=generator) + 0.05 * torch.randn(60, 40, generator=generator)
    t = few @ torch.randn(3, 40, generator=generator) + 0.05 * torch.randn(60, 40, generator=generator)
    assert math.isnan(float(CCA().from_moments(moments(s, t))))
    assert float(SVCCA().from_moments(moments(s, t))) > 0.99
