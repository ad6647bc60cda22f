"""The networks of the pruning benchmark, the images that calibrate, and those that judge."""

from __future__ import annotations

import copy
import tempfile
from functools import cache, cached_property
from pathlib import Path

import fashion
import photographs
import torch
import weights
from torch import Tensor, nn

import tsdistill as tsd

EVALUATED, LEAST = 500, 0.6
"""Crops of unseen photographs that judge EfficientNet-Lite0, and the least part of a side that is cropped."""


_TITLES = {"resnet20": "ResNet-20", "convnet": "ConvNet", "mobilenet": "MobileNet", "vit": "ViT"}


class Case:
    """A trained network with its data.

    Attributes:
        name: what it is called on the command line.
        title: what it is called in the table.
        figure: what ``score`` is, in words.
        budgets: parts of the MACs that are tried.
        images: sizes of the calibration set; the first is the main one.
        labels: where labels come from for those rows that look at some.
        trainable: whether there is training data for an epoch of fine-tuning.
        attends: whether it is a transformer.
        rate: learning rate of that epoch.
        judges: how many inputs ``score`` looks at.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.title = _TITLES[name]
        self.figure = "accuracy on the 10,000 test images of Fashion-MNIST, %"
        self.budgets: tuple[float, ...] = (0.7, 0.5, 0.3, 0.2)
        self.images: tuple[int, ...] = (2048, 256)
        self.labels = "those of the data set"
        self.judges = 10_000
        self.trainable = True
        self.attends = name == "vit"
        self.rate = 3e-4 if self.attends else 0.02

    @property
    def ready(self) -> bool:
        """Whether its weights are there (they are made by training otherwise)."""
        return fashion.kept(self.name).exists()

    @cached_property
    def dense(self) -> nn.Module:
        """The trained network; nobody changes it."""
        return fashion.trained(self.name).eval()

    @property
    def example(self) -> Tensor:
        """One input."""
        return self.calibration(0, 1)[0]

    def calibration(self, seed: int, images: int) -> tuple[Tensor, Tensor]:
        """``images`` training images, unchanged, another part for every seed; and their labels."""
        x, y = fashion.images("train")
        index = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:images]
        return x[index], y[index]

    def score(self, model: nn.Module) -> float:
        """Percent of the test images that are classified as labelled."""
        x, y = fashion.images("t10k")
        return 100 * float((predictions(model, x) == y).float().mean())


class Lite(Case):
    """EfficientNet-Lite0 with its ImageNet weights, on crops of photographs: of objects, buildings, animals.

    Every other photograph may be seen, and the others judge.
    """

    def __init__(self) -> None:
        self.name, self.title = "lite0", "EfficientNet-Lite0"
        self.figure = f"agreement with the dense network on {EVALUATED} crops of photographs not seen, %"
        self.budgets = (0.9, 0.75, 0.5)
        self.images = (1024, 256)
        self.labels = "what the dense network says"
        self.judges = EVALUATED
        self.trainable, self.attends = False, False
        self.rate = 0.0

    @property
    def ready(self) -> bool:
        """The weights come with a package."""
        return True

    @cached_property
    def dense(self) -> nn.Module:
        """The released weights."""
        return weights.lite_model(0)

    def calibration(self, seed: int, images: int) -> tuple[Tensor, Tensor]:
        """Crops of the photographs that may be seen, and the dense network's classes."""
        x = _crops(0, max(images, 32), seed)[:images]
        return x, predictions(self.dense, x, 10)

    @cached_property
    def judged(self) -> tuple[Tensor, Tensor]:
        """The unseen crops and the dense network's classes."""
        x = _crops(1, EVALUATED, 1)
        return x, predictions(self.dense, x, 10)

    def score(self, model: nn.Module) -> float:
        """Percent of the unseen crops whose class is the dense network's."""
        x, y = self.judged
        return 100 * float((predictions(model, x, 10) == y).float().mean())


def case(name: str) -> Case:
    """The case called ``name``, one of ``NAMES``."""
    return Lite() if name == "lite0" else Case(name)


NAMES = (*fashion.NETWORKS, "lite0")


def predictions(model: nn.Module, x: Tensor, size: int = 100) -> Tensor:
    """The largest output of each input; convolutional networks run channels last, which is quicker."""
    fast = copy.deepcopy(model).eval()
    attends = any(hasattr(module, "qkv") for module in fast.modules())
    layout = torch.contiguous_format if attends else torch.channels_last
    fast.to(memory_format=layout)
    with torch.no_grad():
        return torch.cat([fast(part.contiguous(memory_format=layout)).argmax(1) for part in x.split(size)])


@cache
def _crops(half: int, count: int, seed: int) -> Tensor:
    pictures = photographs.lessons()[half::2]
    if not pictures:
        raise SystemExit("EfficientNet-Lite0 is judged on photographs: apt-get install gcompris-qt-data")
    spec = tsd.info_of(weights.lite_model(0)).input
    with tempfile.TemporaryDirectory() as folder:
        made = photographs.crops(pictures, count, Path(folder) / "crops", seed, LEAST)
        return torch.cat([x for x, _ in tsd.open_data(str(made), spec)])
