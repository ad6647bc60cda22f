from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.alignment.metrics.stored import moments, related, scales, seeds
from tsdistill.alignment.metrics.correlation import Correlation, Cosine

METRICS = (Correlation(), Cosine())


def _corrcoef(s: Tensor, t: Tensor) -> np.ndarray:
    wide = np.concatenate([s.double().numpy(), t.double().numpy()], axis=1)
    return np.corrcoef(wide.T)[: s.shape[1], s.shape[1] :]


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_the_metrics_equal_numpy(seed: int) -> None:
    s, t = related(seed)
    found = Correlation().from_moments(moments(s, t))
    np.testing.assert_allclose(found, _corrcoef(s, t), atol=1e-12)
    cosine = (s.T @ t) / torch.outer(s.norm(dim=0), t.norm(dim=0))
    np.testing.assert_allclose(Cosine().from_moments(moments(s, t)), cosine, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-100, 1e-30, 1e-6, 1.0, 1e30, 1e100])
@pytest.mark.parametrize("mean", [0.0, 1.0, 1e5])
def test_no_digit_is_lost_at_any_scale_and_mean(scale: float, mean: float) -> None:
    s, t = related(3)
    s = (s - s.mean(0)) + mean
    found = Correlation().from_moments(moments(s * scale, t))
    np.testing.assert_allclose(found, _corrcoef(s, t), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seeds, st.permutations(range(5)), scales)
def test_permuting_and_rescaling_nodes_only_permutes(
    seed: int, order: list[int], factors: list[float]
) -> None:
    s, t = related(seed)
    for metric in METRICS:
        before = metric.from_moments(moments(s, t))
        after = metric.from_moments(moments(s[:, order] * torch.tensor(factors), t))
        torch.testing.assert_close(after, before[order], atol=1e-12, rtol=0)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_both_sides_are_treated_alike_and_a_node_is_like_itself(seed: int) -> None:
    s, t = related(seed)
    for metric in METRICS:
        table = metric.from_moments(moments(s, t))
        assert bool((table.abs() <= 1).all())
        torch.testing.assert_close(metric.from_moments(moments(t, s)), table.T)
        own = metric.from_moments(moments(s, s)).diagonal()
        torch.testing.assert_close(own, torch.ones_like(own))


def test_only_the_correlation_ignores_the_mean() -> None:
    s, t = related(4)
    before, after = moments(s, t), moments(s + 3, t)
    torch.testing.assert_close(Correlation().from_moments(after), Correlation().from_moments(before))
    assert not torch.allclose(Cosine().from_moments(after), Cosine().from_moments(before), atol=0.1)


def test_nodes_that_do_not_vary_have_no_likeness() -> None:
    s, t = related(1)
    s[:, 2] = 0
    for metric in METRICS:
        table = metric.from_moments(moments(s, t))
        assert bool((table[2] == 0).all())
        assert bool((table[[0, 1, 3, 4]] != 0).all())
    s[:, 2] = 7
    assert bool((Correlation().from_moments(moments(s, t))[2] == 0).all())
