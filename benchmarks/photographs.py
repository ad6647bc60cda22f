"""Photographs to try networks on, and crops of them.

Fourteen come with scikit-image and scikit-learn. 226 of objects, buildings and animals, such as ImageNet has,
come with Debian's package ``gcompris-qt-data`` (lessons for children), inside Qt's resource files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import skimage.data
import sklearn.datasets
from PIL import Image

SEEN = (
    *("chelsea", "rocket", "hubble_deep_field", "immunohistochemistry", "china.jpg"),
    *("stereo_motorcycle", "camera", "brick", "grass"),
)
UNSEEN = ("astronaut", "coffee", "flower.jpg", "retina", "gravel")
"""Names of those that come with packages from PyPI, in two parts."""

LESSONS = Path("/usr/share/gcompris-qt/rcc")
_WITH_PHOTOGRAPHS = (
    *("categorization", "explore_monuments", "erase", "explore_world_animals", "explore_farm_animals"),
)
_SHORTEST = 200


def shipped(names: Sequence[str]) -> list[Image.Image]:
    """Photographs that scikit-image or scikit-learn ship."""
    return [_shipped(name) for name in names]


def _shipped(name: str) -> Image.Image:
    if name.endswith(".jpg"):
        return Image.fromarray(sklearn.datasets.load_sample_image(name))
    loaded = getattr(skimage.data, name)()
    picture = loaded[0] if isinstance(loaded, tuple) else loaded
    return Image.fromarray(picture).convert("RGB")


@cache
def lessons() -> list[Image.Image]:
    """The photographs of GCompris, each once, of at least 200 pixels a side; none without the package."""
    found: list[Image.Image] = []
    small: list[np.ndarray] = []
    for name in _WITH_PHOTOGRAPHS:
        for picture in _webp(LESSONS / f"{name}.rcc"):
            values = np.asarray(picture.convert("L").resize((16, 16)), float)
            values = (values - values.mean()) / (values.std() + 1e-9)
            if min(picture.size) >= _SHORTEST and all((values * other).mean() < 0.99 for other in small):
                found.append(picture.convert("RGB"))
                small.append(values)
    return found


def _webp(path: Path) -> Iterator[Image.Image]:
    """Images in WebP that a file has inside: each is a chunk that tells its own length."""
    data = path.read_bytes() if path.exists() else b""
    start = data.find(b"RIFF")
    while start >= 0:
        length = int.from_bytes(data[start + 4 : start + 8], "little") + 8
        if data[start + 8 : start + 12] == b"WEBP":
            yield Image.open(io.BytesIO(data[start : start + length]))
        start = data.find(b"RIFF", start + 4)


def crops(pictures: Sequence[Image.Image], count: int, folder: Path, seed: int, least: float = 0.25) -> Path:
    """``count`` random square crops (``least`` of the shorter side to all of it), half of them mirrored, as
    PNG."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for i in range(count):
        picture = pictures[i % len(pictures)]
        side = int(min(picture.size) * rng.uniform(least, 1.0))
        left, top = (int(rng.integers(0, extent - side + 1)) for extent in picture.size)
        crop = picture.crop((left, top, left + side, top + side)).resize((256, 256), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        crop.save(folder / f"{i:05d}.png")
    return folder
