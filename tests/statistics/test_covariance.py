from __future__ import annotations

import numpy as np
import pytest
import torch

from tsdistill.statistics.covariance import RunningCovariance


def _run(batches: list[torch.Tensor]) -> RunningCovariance:
    running = RunningCovariance()
    for batch in batches:
        running.update(batch)
    return running


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_streamed_moments_equal_numpy_on_everything_at_once(shift: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(-2, 2, 7)
    data = torch.randn(2000, 7, generator=generator) @ torch.randn(7, 7, generator=generator) * scale
    data = data + shift * scale
    covariance = _run(list(data.split(173))).finish()
    reference = np.cov(data.double().numpy().T, bias=True)
    std = np.sqrt(np.diag(reference))
    assert covariance.rows == 2000
    np.testing.assert_allclose(
        covariance.mean / std, data.double().mean(0).numpy() / std, rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(
        covariance.matrix / np.outer(std, std), reference / np.outer(std, std), atol=2e-6
    )


def test_batches_make_no_difference() -> None:
    data = torch.randn(900, 5, generator=torch.Generator().manual_seed(1)) + 3
    whole, parts = _run([data]).finish(), _run(list(data.split(100))).finish()
    np.testing.assert_allclose(whole.matrix, parts.matrix, atol=1e-6)
    np.testing.assert_allclose(whole.mean, parts.mean, atol=1e-6)


def test_a_constant_feature_has_no_variance_even_far_from_zero() -> None:
    data = torch.randn(500, 3, generator=torch.Generator().manual_seed(2))
    data[:, 1], data[:, 2] = 1234.567, 0.0
    covariance = _run(list(data.split(90))).finish()
    assert covariance.var[0] > 0.5
    assert covariance.var[1] == 0
    assert covariance.var[2] == 0
    assert covariance.mean[2] == 0


def test_a_small_variance_beside_a_large_mean_is_kept() -> None:
    data = 100 + 0.01 * torch.randn(4000, 1, generator=torch.Generator().manual_seed(3))
    covariance = _run(list(data.split(500))).finish()
    np.testing.assert_allclose(covariance.std, data.double().std(0, unbiased=False), rtol=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_noticed(value: float) -> None:
    running = _run([torch.ones(4, 2)])
    assert running.finite
    bad = torch.ones(4, 2)
    bad[3, 1] = value
    running.update(bad)
    running.settle()
    assert not running.finite


def test_signs_and_smallest_values_are_kept() -> None:
    data = torch.tensor([[1.0, -2.0, 0.0], [3.0, 5.0, 0.0], [2.0, 1.0, 0.0], [4.0, -1.0, 0.0]])
    covariance = _run([data[:3], data[3:]]).finish()
    np.testing.assert_array_equal(covariance.on, [1.0, 0.5, 0.0])
    np.testing.assert_array_equal(covariance.lowest, [1.0, -2.0, 0.0])


def test_memory_does_not_grow_with_samples() -> None:
    def kept(batches: int) -> int:
        running = _run([torch.randn(512, 6) for _ in range(batches)])
        waiting = sum(part.numel() for parts in running._pending._waiting for part in parts)
        sums = running.sums
        tensors = [*sums.means, *sums.squares, sums.products, running.probe, running.positive, running.lowest]
        return waiting + sum(tensor.numel() for tensor in tensors if tensor is not None)

    assert kept(80) == kept(8)
