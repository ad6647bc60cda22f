"""Mixtures of two samples: mixup and cutmix, by timm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from tsdistill.errors import TsdistillError
from tsdistill.runtime.seeds import preserved_generators

MODES = ("batch", "pair", "elem")


@dataclass(frozen=True)
class SampleMixture:
    """Two samples mixed (mixup) or cut into one another (cutmix), labels with them; for long distillation.

    The samples of a batch are paired first with last (timm's ``Mixup``). Where a teacher gives the targets it
    sees the mixtures too, so that no label has to be mixed: L. Beyer et al., "Knowledge distillation: A good
    teacher is patient and consistent" (2022), measured that this helps, and the more so the longer the
    training.

    Args:
        mixup: alpha of the Beta distribution of the shares, 0 for no mixup (H. Zhang et al., 2018).
        cutmix: the same for the area of the box, 0 for no cutmix (S. Yun et al., 2019); each batch takes one
            of the two by chance where both are given.
        chance: of mixing at all.
        mode: one share for the ``batch``, per ``pair`` or per sample (``elem``).
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    chance: float = 1.0
    mode: str = "batch"

    def __post_init__(self) -> None:
        if min(self.mixup, self.cutmix) < 0 or max(self.mixup, self.cutmix) == 0:
            raise TsdistillError(
                "mixup and cutmix are the alphas of Beta distributions: none may be negative, one has to be "
                f"positive, not mixup={self.mixup:g}, cutmix={self.cutmix:g}"
            )
        if self.mode not in MODES:
            raise TsdistillError(f"mode is one of {', '.join(MODES)}, not {self.mode!r}")

    @property
    def help(self) -> str:
        """What ``tsdistill plugins`` says."""
        what = "One image cut into another" if self.cutmix else "Two samples mixed"
        return (
            f"{what}, labels with them; favoured by measurements of long distillation (Beyer et al., 2022)."
        )

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return "+".join(each for each in ("mixup", "cutmix") if getattr(self, each))

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """The mixed batch; images for cutmix, samples of any floating shape for mixup.

        Raises:
            TsdistillError: the samples cannot be mixed.
        """
        return self.mix(x, torch.zeros(len(x), dtype=torch.long, device=x.device), 1, generator)[0]

    def mix(self, x: Tensor, y: Tensor, classes: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mixed samples and their labels, float ``(n, classes)``.

        Args:
            x: the batch ``(n, ...)``.
            y: class numbers, int64 ``(n,)``.
            classes: how many classes there are.
            generator: of everything random.

        Raises:
            TsdistillError: the samples cannot be mixed, or a label is out of range.
        """
        from timm.data import Mixup

        if not x.is_floating_point() or (self.cutmix and x.ndim != 4):
            what = "images" if self.cutmix else "real values"
            raise TsdistillError(
                f"the augmentation {self.name} mixes {what}, not {x.dtype} samples of shape "
                f"{tuple(x.shape[1:])}"
            )
        if len(y) and not 0 <= int(y.min()) <= int(y.max()) < classes:
            raise TsdistillError(
                f"labels from {int(y.min())} to {int(y.max())} do not go with {classes} classes; "
                "give data with the labels of the model"
            )
        mixup = Mixup(
            mixup_alpha=self.mixup,
            cutmix_alpha=self.cutmix,
            prob=self.chance,
            mode=self.mode,
            label_smoothing=0.0,
            num_classes=classes,
        )
        odd = len(x) % 2
        x, y = (torch.cat([part, part[:odd]]) for part in (x, y))
        if not odd:
            x = x.clone()
        with _numpy_seeded(generator):
            mixed, labels = mixup(x, y)
        return mixed[: len(x) - odd], labels[: len(x) - odd]


@contextmanager
def _numpy_seeded(generator: Generator) -> Iterator[None]:
    """numpy's global generator seeded from ``generator``, put back afterwards."""
    seed = int(torch.randint(2**32 - 1, (), generator=generator))
    with preserved_generators():
        np.random.seed(seed)
        yield
