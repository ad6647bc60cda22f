from __future__ import annotations

import pytest
import torch

from tsdistill import plugins
from tsdistill.augmentation.strategies import Directions, standard
from tsdistill.errors import TsdistillError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["none", "standard", "directions"])
def test_shape_is_kept_and_the_seed_decides(name: str) -> None:
    strategy = plugins.get("augmentation", name)
    x = torch.randn(10, 3, 16, 24, generator=generator(5))
    before = x.clone()
    outside = torch.get_rng_state()
    first, again, other = (strategy(x, generator(seed)) for seed in (1, 1, 2))
    assert first.shape == x.shape
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name == "none")
    assert torch.equal(x, before)
    assert torch.equal(outside, torch.get_rng_state())


def test_standard_shifts_by_up_to_an_eighth_and_flips() -> None:
    height, width = 16, 24
    grid = torch.arange(height)[:, None] * 1000 + torch.arange(width)
    x = grid.float().expand(200, 1, height, width)
    moved = standard(x, generator())[:, 0]
    centre = moved[:, height // 2, width // 2]
    rows, columns = (centre / 1000).long() - height // 2, (centre % 1000).long()
    step = moved[:, height // 2, width // 2 + 1] - centre
    flipped = step < 0
    columns = torch.where(flipped, width - 1 - columns, columns) - width // 2
    assert 60 < int(flipped.sum()) < 140
    assert set(step.abs().tolist()) == {1.0}
    assert set(rows.tolist()) == set(range(-2, 3))
    assert set(columns.tolist()) == set(range(-3, 4))


def test_standard_needs_images() -> None:
    with pytest.raises(TsdistillError, match="shape"):
        standard(torch.zeros(4, 7), generator())


def test_directions_are_orthonormal_with_both_signs_and_one_length() -> None:
    x = torch.randn(12, 30, generator=generator(3)) + 5
    step = Directions(scale=0.1)(x, generator()) - x
    length = 0.1 * (x - x.mean(0)).norm(dim=1).square().mean().sqrt()
    gram = step @ step.T / length**2
    torch.testing.assert_close(gram, torch.eye(12), atol=1e-4, rtol=0)


def test_directions_cover_all_of_few_dimensions() -> None:
    x = torch.randn(400, 3, generator=generator(3))
    step = Directions(scale=0.5)(x, generator()) - x
    covariance = step.T @ step
    torch.testing.assert_close(covariance / covariance.trace(), torch.eye(3) / 3, atol=0.01, rtol=0)
    assert step.mean(0).norm() < 0.2 * step.norm(dim=1).mean()


def test_directions_of_one_sample_and_of_integers() -> None:
    assert not torch.equal(Directions()(torch.ones(1, 5), generator()), torch.ones(1, 5))
    with pytest.raises(TsdistillError, match="integers"):
        Directions()(torch.ones(2, 5, dtype=torch.long), generator())
