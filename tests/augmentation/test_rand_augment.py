from __future__ import annotations

import pytest
import torch

from tests.digits import digits
from tsdistill.augmentation import Setting, opened, prepared
from tsdistill.errors import TsdistillError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("known", [True, False])
def test_pixels_stay_in_the_range_of_the_normalised_ones(known: bool) -> None:
    mean, std = 0.3, 0.4
    x = (digits(64)[0] - mean) / std
    given = {"mean": (mean,), "std": (std,)} if known else {}
    strategy = prepared(opened("randaugment:magnitude=20"), Setting(None, lambda: [x], generator(), **given))
    made = strategy(x, generator(1))
    assert made.shape == x.shape
    assert float(made.min()) >= (0 - mean) / std - 1e-5
    assert float(made.max()) <= (1 - mean) / std + 1e-5
    assert float((made != x).flatten(1).any(1).float().mean()) > 0.8


def test_the_seed_decides_and_nothing_else_is_touched() -> None:
    x = digits(20)[0].expand(20, 3, 8, 8)
    strategy = opened("randaugment")
    outside, before = torch.get_rng_state(), x.clone()
    first, again, other = (strategy(x, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(outside, torch.get_rng_state())
    assert torch.equal(x, before)


def test_no_change_is_as_good_as_none() -> None:
    x = digits(30)[0]
    kept = [
        bool((made - picture).abs().max() < 1 / 255)
        for picture, made in zip(
            x, opened("randaugment:magnitude=0,operations=1")(x, generator()), strict=True
        )
    ]
    assert sum(kept) > 15


def test_images_are_needed() -> None:
    with pytest.raises(TsdistillError, match="1 or 3 channels"):
        opened("randaugment")(torch.zeros(4, 7), generator())
    with pytest.raises(TsdistillError, match="1 or 3 channels"):
        opened("randaugment")(torch.zeros(4, 2, 8, 8), generator())
