"""The data sets of the experiment cifar10: folders, sizes and normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tsdistill.data.arrays import ArraySamples
from tsdistill.data.named_datasets import torchvision_dataset
from tsdistill.errors import TsdistillError, cause_of

CIFAR = "cifar-10-batches-py"


@dataclass(frozen=True)
class ImageSet:
    """One data set.

    Attributes:
        name: as in ``NAME:FOLDER``.
        folder: folder of its files.
        colours: ``gray`` or ``rgb``, which selects the network.
        size: channels, height and width of an image.
        mean: mean of each channel, for pixels in [0, 1].
        std: standard deviation of each channel.
    """

    name: str
    folder: Path
    colours: str
    size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def part(self, split: str, most: int, seed: int) -> ArraySamples:
        """The ``train`` or ``test`` images, normalised, in memory.

        Args:
            split: ``train`` or ``test``.
            most: size of a random subset; 0: all images.
            seed: of the subset.

        Raises:
            TsdistillError: the files are missing.
        """
        dataset: Any = torchvision_dataset(self.name, f"{self.folder},split={split}")
        pixels = torch.tensor(dataset.images if self.colours == "gray" else dataset.data)
        labels = torch.tensor(
            dataset.labels if self.colours == "gray" else dataset.targets, dtype=torch.int64
        )
        if 0 < most < len(pixels):
            chosen = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))[:most]
            pixels, labels = pixels[chosen], labels[chosen]
        x = pixels[:, None] if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2)
        mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (self.mean, self.std))
        size = f"{len(x):,} {self.name} {split} images"
        return ArraySamples((x / 255 - mean) / std, labels, name=size)


SETS = {
    "fashion-mnist": ImageSet(
        "fashion-mnist", Path("/usr/share/datasets/fashion-mnist"), "gray", (1, 28, 28), (0.2860,), (0.3530,)
    ),
    "cifar10": ImageSet(
        "cifar10",
        Path.home() / ".cache" / "tsdistill",
        "rgb",
        (3, 32, 32),
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
}


def image_set(name: str, folder: str | None = None) -> ImageSet:
    """One of `SETS`; CIFAR-10 is downloaded by torchvision if it is missing.

    Args:
        name: name of the set.
        folder: folder of the set; ``None`` for the default folder.

    Raises:
        TsdistillError: it cannot be downloaded.
    """
    known = SETS[name]
    chosen = known if folder is None else ImageSet(**{**vars(known), "folder": Path(folder).expanduser()})
    if name == "cifar10" and not (chosen.folder / CIFAR).is_dir():
        _download(chosen.folder)
    return chosen


def _download(folder: Path) -> None:
    from torchvision.datasets import CIFAR10

    try:
        folder.mkdir(parents=True, exist_ok=True)
        CIFAR10(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise TsdistillError(
            f"CIFAR-10 is not in {folder} and cannot be downloaded ({cause_of(error)}); put the folder "
            f"{CIFAR} there, or take --data fashion-mnist"
        ) from error
