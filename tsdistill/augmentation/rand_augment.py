"""RandAugment on batches of normalised images, by torchvision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from tsdistill.augmentation.strategy_protocol import Setting
from tsdistill.errors import TsdistillError
from tsdistill.runtime.seeds import preserved_generators

_RANGE_SAMPLES = 512
"""Images that the range from black to white is read from, where the model states no normalisation: nearly
every photo has some saturated pixels, so a few hundred images reach both ends."""


@dataclass(frozen=True)
class RandAugment:
    """Random operations on each image (shear, rotate, colour, ...); favoured for long training on photos.

    E. Cubuk et al., "RandAugment" (2020). Its operations are defined for pictures of 8 bits a channel: the
    range from black to white is the one that the model's mean and standard deviation say, else the range of
    the data.

    Args:
        operations: how many one after the other.
        magnitude: of each, 0 to 30.
        black: per-channel value of black, found by `prepare`.
        white: per-channel value of white, likewise.
    """

    operations: int = 2
    magnitude: int = 9
    black: tuple[float, ...] | None = None
    white: tuple[float, ...] | None = None

    name = "randaugment"

    def __post_init__(self) -> None:
        if self.operations < 1 or not 0 <= self.magnitude <= 30:
            raise TsdistillError(
                "randaugment takes at least one operation and a magnitude from 0 to 30, not "
                f"operations={self.operations}, magnitude={self.magnitude}"
            )

    def prepare(self, setting: Setting) -> RandAugment:
        """The strategy with the range of the pixels."""
        if setting.mean is not None and setting.std is not None:
            pairs = list(zip(setting.mean, setting.std, strict=True))
            black = tuple(-mean / std for mean, std in pairs)
            return replace(self, black=black, white=tuple((1 - mean) / std for mean, std in pairs))
        seen = 0
        lows, highs = [], []
        for x in setting.batches():
            _check(x)
            lows.append(x.amin((0, 2, 3)))
            highs.append(x.amax((0, 2, 3)))
            seen += len(x)
            if seen >= _RANGE_SAMPLES:
                break
        if not seen:
            return self
        return replace(
            self,
            black=tuple(torch.stack(lows).amin(0).tolist()),
            white=tuple(torch.stack(highs).amax(0).tolist()),
        )

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """The changed images ``(batch, 1 or 3, height, width)``.

        Raises:
            TsdistillError: the samples are not images of one or three channels.
        """
        from torchvision.transforms import v2

        _check(x)
        black, span = self._range(x)
        change = v2.RandAugment(self.operations, self.magnitude)
        pictures = ((x - black) / span * 255).round().clamp(0, 255).to(torch.uint8)
        with _torch_seeded(generator):
            changed = torch.stack([change(picture) for picture in pictures])
        return changed.to(x.dtype) / 255 * span + black

    def _range(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Black and the distance from it to white, each to be broadcast over ``x``."""
        if self.black is not None and self.white is not None:
            ends = torch.tensor([self.black, self.white], dtype=x.dtype, device=x.device)
        else:
            ends = torch.stack([x.amin((0, 2, 3)), x.amax((0, 2, 3))])
        low, high = ends.unflatten(-1, (-1, 1, 1))
        span = high - low
        return low, torch.where(span > 0, span, 1)


def _check(x: Tensor) -> None:
    if x.ndim != 4 or x.shape[1] not in (1, 3) or not x.is_floating_point():
        raise TsdistillError(
            "the augmentation randaugment changes images of 1 or 3 channels, not "
            f"{x.dtype} samples of shape {tuple(x.shape[1:])}; use none"
        )


@contextmanager
def _torch_seeded(generator: Generator) -> Iterator[None]:
    """torch's global generator on the CPU seeded from ``generator``, put back afterwards."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with preserved_generators():
        torch.default_generator.manual_seed(seed)
        yield
