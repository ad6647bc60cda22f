"""Synthetic samples, each a function of its index alone: dead leaves, 1/f noise and Gaussian values.

Dead leaves have the statistics of photographs. A. Lee, D. Mumford, J. Huang, "Occlusion models for natural
images", IJCV 41 (2001): discs whose radii follow a power law with exponent -3 and which occlude each other
have the scale invariance, the 1/f amplitude spectrum and the edges of natural images. Here every disc also
carries a patch of 1/f texture and a faint shade.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from tsdistill.data.transforms import convert, is_image, normalise
from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec


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


_COVER = 3.5
"""Area of all discs over the area of the canvas: exp(-3.5) = 3 % of the pixels show the background."""


_MIN_RADIUS = 1.5
"""Smallest radius of a disc, in pixels: below it a disc is hardly more than one pixel of noise."""


_PALETTE_SPREAD = 0.75
"""Part of the luminance spread that the discs of one picture have among each other; the rest lies between
pictures.
"""


_LUMINANCE = (0.45, 0.24)
"""Mean and spread of luminance in [0, 1], near the mean (0.45) and deviation (0.23) of ImageNet's pixels."""


_CHROMA = 0.10
"""Deviation of a colour channel from the luminance, in [0, 1]: natural colours vary less than brightness."""


@functools.lru_cache(maxsize=8)
def _stamp(radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column offsets within ``radius`` of a pixel, nearest first, and their distances."""
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    distance = np.hypot(rows, columns).ravel()
    order = np.argsort(distance, kind="stable")
    order = order[: np.searchsorted(distance[order], radius, side="right")]
    return (
        rows.ravel()[order].astype(np.int32),
        columns.ravel()[order].astype(np.int32),
        distance[order].astype(np.float32),
    )


def disc_owners(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Which disc is on top at each pixel: ``(height, width)`` int32, 0 for the background.

    Radii lie between 1.5 pixels and a third of the shorter side, with density proportional to radius ** -3.

    Args:
        height: of the picture, in pixels.
        width: likewise.
        rng: source of places and radii.
    """
    largest = max(_MIN_RADIUS + 0.5, min(height, width) / 3)
    margin = int(largest)
    tail = _MIN_RADIUS**-2 - largest**-2
    mean_area = 2 * np.pi * np.log(largest / _MIN_RADIUS) / tail
    count = max(8, int(_COVER * (height + 2 * margin) * (width + 2 * margin) / mean_area))
    radius = (_MIN_RADIUS**-2 - rng.random(count) * tail) ** -0.5
    top = rng.integers(-margin, height + margin, count, dtype=np.int32)
    left = rng.integers(-margin, width + margin, count, dtype=np.int32)
    inside = (top > -radius) & (top < height + radius) & (left > -radius) & (left < width + radius)
    radius, top, left = radius[inside], top[inside], left[inside]
    rows, columns, distance = _stamp(int(np.ceil(largest)))
    pixels = np.searchsorted(distance, radius, side="right")
    disc = np.repeat(np.arange(len(radius), dtype=np.int32), pixels)
    first = (np.cumsum(pixels) - pixels).astype(np.int32)
    offset = np.arange(len(disc), dtype=np.int32) - first[disc]
    row = top[disc] + rows[offset]
    column = left[disc] + columns[offset]
    seen = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    owner = np.zeros(height * width, np.int32)
    owner[row[seen] * width + column[seen]] = disc[seen] + 1
    return owner.reshape(height, width)


def _colours(count: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """``(count, channels)`` colours of one picture: luminance varies most, around a palette of its own."""
    centre, spread = _LUMINANCE
    base = centre + 0.6 * spread * rng.standard_normal()
    luminance = base + spread * rng.uniform(-1.6, 1.6, (count, 1)) * _PALETTE_SPREAD
    if channels == 1:
        return luminance.astype(np.float32)
    tint = _CHROMA * (0.5 * rng.standard_normal((1, channels)) + rng.standard_normal((count, channels)))
    tint -= tint.mean(1, keepdims=True)
    return (luminance + tint).astype(np.float32)


def _soften(image: np.ndarray) -> np.ndarray:
    """The image after a binomial [1 2 1] / 4 blur in both directions: what a lens does to hard edges."""
    for axis in (1, 2):
        padded = np.pad(image, [(0, 0), *((1, 1) if a == axis else (0, 0) for a in (1, 2))], mode="edge")
        low = padded[:, :-2] if axis == 1 else padded[:, :, :-2]
        high = padded[:, 2:] if axis == 1 else padded[:, :, 2:]
        image = 0.5 * image + 0.25 * (low + high)
    return image


def dead_leaves(channels: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """One picture: ``(channels, height, width)`` float32 in [0, 1].

    Args:
        channels: 1 or more.
        height: in pixels.
        width: in pixels.
        rng: source of everything random.
    """
    owner = disc_owners(height, width, rng)
    count = int(owner.max()) + 1
    colour = _colours(count, channels, rng)
    side = 1 << max(3, (max(height, width) - 1).bit_length())
    texture = pink_field(1, side, side, rng)[0].ravel()
    shift = rng.integers(0, side * side, count, dtype=np.int32)
    contrast = (0.10 * rng.random(count) ** 2).astype(np.float32)
    position = (np.arange(height, dtype=np.int32) * side)[:, None] + np.arange(width, dtype=np.int32)
    grain = texture[(position + shift[owner]) & (side * side - 1)] * contrast[owner]
    image = np.take(np.ascontiguousarray(colour.T), owner, axis=1) + grain
    light = rng.standard_normal(2) * 0.08
    image = image + (
        light[0] * np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        + light[1] * np.linspace(-1, 1, width, dtype=np.float32)
    ).astype(np.float32)
    return np.clip(_soften(image), 0.0, 1.0).astype(np.float32)


_PICTURES = {"dead-leaves": dead_leaves, "pink": pink}
KINDS = (*_PICTURES, "gaussian")


class SyntheticSamples(Dataset):
    """Every index from 0 to 2**63 - 1 is a sample of its own, the same whenever it is asked for.

    Args:
        kind: ``"dead-leaves"`` or ``"pink"`` (images, normalised as real ones are), ``"gaussian"``
            (independent standard normal values, of any shape) or ``""``: dead leaves for images, Gaussian for
            all else.
        spec: how inputs look.

    Raises:
        TsdistillError: there is no such kind, or it makes images and the model reads something else.
    """

    synthetic = True
    labelled = False

    def __init__(self, kind: str, spec: InputSpec) -> None:
        kind = kind or ("dead-leaves" if is_image(spec) else "gaussian")
        if kind not in KINDS:
            raise TsdistillError(f"there is no synthetic source {kind!r}; there are {', '.join(KINDS)}")
        if kind in _PICTURES and not is_image(spec):
            raise TsdistillError(
                f"synthetic:{kind} makes images but inputs have shape {spec.size}; use synthetic:gaussian"
            )
        self.kind = kind
        self.pictures = kind in _PICTURES
        self.spec = spec
        self.description = f"synthetic {kind}" + (" images" if kind in _PICTURES else " samples")

    def __getitem__(self, index: int) -> Any:
        """Sample ``index``: a float tensor of shape ``spec.size`` (a PIL image when the specification has a
        transform)."""
        rng = np.random.Generator(np.random.SFC64(index))
        if self.kind == "gaussian":
            return torch.from_numpy(rng.standard_normal(self.spec.size, dtype=np.float32))
        channels, height, width = self.spec.size
        picture = _PICTURES[self.kind](channels, height, width, rng)
        if self.spec.transform is not None:
            return _as_pil(picture)
        return normalise(torch.from_numpy(picture), self.spec)


def _as_pil(picture: np.ndarray) -> Any:
    from PIL import Image

    pixels = (picture * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels[:, :, :3])
    return convert(image, 1 if pixels.shape[2] == 1 else 3)
