"""Fields of 1/f noise: random phases under the amplitude spectrum of photographs."""

from __future__ import annotations

import functools

import numpy as np


@functools.lru_cache(maxsize=8)
def _amplitude(height: int, width: int) -> np.ndarray:
    """1 / |frequency| on the grid of a real FFT, zero at the mean, scaled to unit variance of the field."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    amplitude = 1.0 / frequency
    weight = np.full(amplitude.shape, 2.0)
    weight[:, 0] = 1.0
    if width % 2 == 0:
        weight[:, -1] = 1.0
    power = float((weight * amplitude**2).sum()) or 1.0
    return (amplitude * np.sqrt(height * width / power)).astype(np.float32)


def pink_field(channels: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian fields whose amplitude falls as 1/f: ``(channels, height, width)`` float32, mean 0, variance
    1.

    D. Field, "Relations between the statistics of natural images and the response properties of cortical
    cells", JOSA A 4 (1987).

    Args:
        channels: independent fields.
        height: in pixels.
        width: in pixels.
        rng: source of the phases.
    """
    from scipy import fft

    white = rng.standard_normal((channels, height, width), dtype=np.float32)
    return fft.irfft2(fft.rfft2(white) * _amplitude(height, width), s=(height, width)).astype(np.float32)


def pink(channels: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """One 1/f picture: ``(channels, height, width)`` float32 in [0, 1], the channels mostly in step.

    Args:
        channels: 1 or more.
        height: in pixels.
        width: in pixels.
        rng: source of the phases.
    """
    shared = pink_field(1, height, width, rng)
    image = shared if channels == 1 else 0.9 * shared + 0.43 * pink_field(channels, height, width, rng)
    return np.clip(0.45 + 0.23 * image, 0.0, 1.0).astype(np.float32)
