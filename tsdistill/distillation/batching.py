"""From a batch as it was read to what both models get: checked, moved, augmented, labels smoothed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from tsdistill.augmentation import Setting, augmented, opened, prepared
from tsdistill.augmentation.protocol import Strategy
from tsdistill.data.training import TrainingBatch, TrainingData
from tsdistill.data.training_transforms import mixed_seed
from tsdistill.distillation.options import Options
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.forward import to_model

_DRAWN = 5


class Batching:
    """Makes batches ready; what is random depends on seed, epoch, batch and process alone.

    Args:
        options: augmentation, smoothing and seed.
        strategy: the augmentation, made ready; ``None`` for none.
        classes: of the student's output, ``None`` where that has none.
        needs_labels: whether a loss reads labels.
        process: number of this process.
    """

    def __init__(
        self,
        options: Options,
        strategy: Strategy | None,
        classes: int | None,
        needs_labels: bool,
        process: int,
    ) -> None:
        self._options, self._strategy = options, strategy
        self._classes, self._needs_labels, self._process = classes, needs_labels, process
        self._seen: set[int] = set()

    def __call__(self, batch: TrainingBatch, epoch: int, device: torch.device) -> tuple[Any, Any]:
        """The inputs and labels (class numbers, probabilities or ``None``) on ``device``.

        Raises:
            TsdistillError: labels are missing or out of range, or the augmentation fails.
        """
        y = batch.y if self._needs_labels else None
        if self._needs_labels:
            self._check(batch)
        x = _moved(batch.x, device)
        y = y.to(device, non_blocking=True) if isinstance(y, Tensor) else y
        if self._strategy is not None:
            if not isinstance(x, Tensor):
                raise TsdistillError(
                    f"the augmentation {self._options.augment} takes one tensor a batch; use --augment none"
                )
            numbers = (self._options.seed, epoch, batch.number, self._process, _DRAWN)
            generator = Generator().manual_seed(mixed_seed(*numbers))
            x, y = augmented(self._strategy, x, y, generator, self._classes)
        if self._options.label_smoothing and isinstance(y, Tensor) and self._classes:
            y = smoothed(y, self._options.label_smoothing, self._classes)
        return x, y

    def _check(self, batch: TrainingBatch) -> None:
        y = batch.y
        if y is None:
            raise TsdistillError("the loss needs labels and the data have none; give --loss soft-targets")
        if not isinstance(y, Tensor) or y.is_floating_point() or self._classes is None:
            return
        check_range(y, self._classes, batch.index)
        if len(self._seen) < 2:
            self._seen.update(y.unique().tolist())

    @property
    def one_class(self) -> int | None:
        """The only class that there has been, ``None`` for several or when labels are not looked at."""
        return next(iter(self._seen)) if len(self._seen) == 1 else None


def check_range(y: Tensor, classes: int, index: Tensor | None = None) -> None:
    """See that labels are classes of the model.

    Raises:
        TsdistillError: one is not; names it and its sample.
    """
    if not len(y) or (int(y.min()) >= 0 and int(y.max()) < classes):
        return
    place = int(((y < 0) | (y >= classes)).nonzero()[0, 0])
    which = "" if index is None else f" (sample {int(index[place])})"
    raise TsdistillError(
        f"a label is {int(y[place])}{which} but the model has {classes} classes, 0 to {classes - 1}; "
        "give data of the model's classes"
    )


def check_labels(data: TrainingData, classes: int | None) -> None:
    """Look at the labels of all samples, where they are known before these are read.

    Raises:
        TsdistillError: one is out of range, or there is one class only.
    """
    if data.labels is None or classes is None:
        return
    labels = np.asarray(data.labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iub" or not len(labels):
        return
    check_range(torch.from_numpy(labels.astype(np.int64)), classes, torch.arange(len(labels)))
    refuse_one_class(int(labels[0]) if (labels == labels[0]).all() else None, data.name)


def refuse_one_class(label: int | None, name: str) -> None:
    """Refuse data whose every label is ``label``; ``None`` passes.

    Raises:
        TsdistillError: there is nothing to tell apart.
    """
    if label is not None:
        raise TsdistillError(
            f"every label of {name} is {label}: there is nothing to tell apart; give data of several "
            "classes, or a loss that needs no labels"
        )


def smoothed(y: Tensor, part: float, classes: int) -> Tensor:
    """Labels as probabilities ``[N, classes]`` of which ``part`` is spread evenly over all classes."""
    sure = y.float() if y.is_floating_point() else functional.one_hot(y, classes).float()
    return sure * (1 - part) + part / classes


def strategy_of(
    options: Options, teacher: Any, batches: Sequence[tuple[Any, Any]], mean: Any, std: Any
) -> Strategy | None:
    """The augmentation that the options ask for, made ready.

    Raises:
        TsdistillError: there is no such strategy, or it does not suit the models or the data.
    """
    parts = [options.augment] if options.augment != "none" else []
    if options.mixup or options.cutmix:
        parts.append(f"mixup:mixup={options.mixup},cutmix={options.cutmix}")
    if not parts:
        return None
    setting = Setting(
        teacher=teacher,
        batches=lambda: [x for x, _ in batches if isinstance(x, Tensor)],
        generator=Generator().manual_seed(mixed_seed(options.seed, _DRAWN)),
        mean=mean,
        std=std,
    )
    return prepared(opened("+".join(parts)), setting)


def _moved(x: Any, device: torch.device) -> Any:
    if isinstance(x, Tensor):
        x = x.to(device, non_blocking=True)
        return x.float() if x.dtype == torch.float64 else x
    return to_model(x, torch.nn.Linear(1, 1, device=device))
