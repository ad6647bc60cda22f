"""Synthetic samples, each a function of its index alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from tsdistill.data.dead_leaves import dead_leaves
from tsdistill.data.noise import pink
from tsdistill.data.transforms import convert, is_image, normalise
from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec

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
