from __future__ import annotations

import itertools

import numpy as np
import pytest

from tsdistill.data.synthetic import dead_leaves, disc_owners, pink, pink_field


def power_slope(images: np.ndarray) -> float:
    """Exponent of the radially averaged power spectrum of ``(n, c, h, w)`` images."""
    side = images.shape[-1]
    window = np.outer(np.hanning(side), np.hanning(side))
    centred = images - images.mean((2, 3), keepdims=True)
    power = (np.abs(np.fft.fft2(centred * window)) ** 2).mean((0, 1))
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None]) * side
    edges = np.geomspace(3, side / 3, 8)
    bands = [power[(radius >= low) & (radius < high)].mean() for low, high in itertools.pairwise(edges)]
    return float(np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(bands), 1)[0])


def photographs() -> np.ndarray:
    from skimage import data
    from skimage.transform import resize

    pictures = [
        data.astronaut(),
        data.chelsea()[:300, :300],
        data.coffee()[:400, 100:500],
        data.rocket()[:427, :427],
    ]
    return np.stack([resize(p, (128, 128), anti_aliasing=True).transpose(2, 0, 1) for p in pictures])


def made(maker, count: int, channels: int = 3, side: int = 128) -> np.ndarray:
    return np.stack([maker(channels, side, side, np.random.default_rng(seed)) for seed in range(count)])


def test_the_spectrum_falls_as_that_of_photographs_does() -> None:
    real = power_slope(photographs())
    assert -3.3 < real < -2.0
    assert abs(power_slope(made(dead_leaves, 12)) - real) < 0.5
    assert power_slope(np.random.default_rng(0).standard_normal((4, 1, 128, 128))) == pytest.approx(
        0, abs=0.1
    )


def test_pink_noise_has_one_over_f_amplitudes() -> None:
    fields = np.stack([pink_field(1, 128, 128, np.random.default_rng(seed)) for seed in range(12)])
    assert power_slope(fields) == pytest.approx(-2, abs=0.15)
    assert fields.mean() == pytest.approx(0, abs=1e-4)
    assert fields.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("maker", [dead_leaves, pink])
def test_pictures_are_lit_like_photographs(maker) -> None:
    pictures = made(maker, 12)
    assert pictures.dtype == np.float32
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert 0.3 < pictures.mean() < 0.6
    assert 0.15 < pictures.std() < 0.32
    grey = pictures.mean(1)
    assert grey.std() > 2 * (pictures - grey[:, None]).std()


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 28, 40), (4, 33, 17), (3, 64, 64)])
@pytest.mark.parametrize("maker", [dead_leaves, pink])
def test_any_size_is_made_and_depends_on_the_seed_alone(
    maker, channels: int, height: int, width: int
) -> None:
    first, again, other = (maker(channels, height, width, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (channels, height, width)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.std() > 0.01


def test_small_leaves_are_many_and_large_ones_are_there() -> None:
    owner = disc_owners(256, 256, np.random.default_rng(0))
    areas = np.bincount(owner.ravel())[1:]
    areas = areas[areas > 0]
    assert (owner == 0).mean() < 0.1
    assert areas.max() > 2000
    assert np.median(areas) < 60
