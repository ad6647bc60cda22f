from __future__ import annotations

import numpy as np
import torch

from tsdistill.statistics.centred_sums import CentredSums
from tsdistill.statistics.covariance import Covariance, RunningCovariance
from tsdistill.statistics.moments import Moments, moments_of, own_moments, pooled


def _moments(s: torch.Tensor, t: torch.Tensor, size: int, *, full: bool = False) -> Moments:
    sums = CentredSums(full=full)
    for a, b in zip(s.split(size), t.split(size), strict=True):
        sums.add(a[:, :, None], b[:, :, None])
    return moments_of(sums)


def _covariance(x: torch.Tensor) -> Covariance:
    running = RunningCovariance()
    running.update(x)
    return running.finish()


def test_streamed_pair_moments_equal_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(1000, 4, generator=generator) + 50
    t = s[:, :3] @ torch.randn(3, 3, generator=generator) + torch.randn(1000, 3, generator=generator)
    for size in (1000, 77):
        found = _moments(s, t, size, full=True)
        reference = np.cov(s.double().numpy().T, t.double().numpy().T, bias=True)
        assert found.n == 1000
        np.testing.assert_allclose(found.cov(), reference[:4, 4:], atol=1e-5)
        np.testing.assert_allclose(found.cov_s(), reference[:4, :4], atol=1e-5)
        np.testing.assert_allclose(found.cov_t(), reference[4:, 4:], atol=1e-4)
        np.testing.assert_allclose(found.var_s(), np.diag(reference)[:4], rtol=1e-5)
        np.testing.assert_allclose(found.var_t(), np.diag(reference)[4:], rtol=1e-5)
        np.testing.assert_allclose(found.mean_s(), s.double().mean(0), rtol=1e-7)


def test_a_constant_node_has_no_variance_and_a_nearly_constant_one_has() -> None:
    constant = torch.full((50, 1), 33.3)
    nearly = 33.3 + 1e-3 * torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    found = _moments(torch.cat([constant, nearly], 1), torch.randn(50, 1), 20)
    assert float(found.var_s()[0]) == 0
    np.testing.assert_allclose(found.var_s()[1], nearly.double().var(unbiased=False), rtol=1e-5)


def test_own_moments_are_those_of_a_group_beside_itself() -> None:
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(1)) * torch.arange(1.0, 7) + 2
    features = np.array([[5], [0], [3]])
    found = own_moments(_covariance(x), features)
    chosen = x[:, [5, 0, 3]].double().numpy()
    np.testing.assert_allclose(found.cov(), np.cov(chosen.T, bias=True), atol=1e-4)
    np.testing.assert_allclose(found.cov_t(), found.cov())
    np.testing.assert_allclose(found.var_s(), chosen.var(0), rtol=1e-5)
    np.testing.assert_allclose(found.mean_t(), chosen.mean(0), rtol=1e-5)


def test_coordinates_of_a_node_count_as_samples() -> None:
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(2)) + torch.arange(6.0)
    features = np.array([[0, 1, 2], [3, 4, 5]])
    mean, matrix = pooled(_covariance(x), features)
    samples = np.concatenate([x[:, [0, 3]], x[:, [1, 4]], x[:, [2, 5]]]).astype(np.float64)
    np.testing.assert_allclose(mean, samples.mean(0), atol=1e-5)
    np.testing.assert_allclose(matrix, np.cov(samples.T, bias=True), atol=1e-5)
