"""Preparation of batches for both models: checks, transfer, augmentation, label smoothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from tsdistill.augmentation import MixesLabels, Setting, augmented, chained, opened, prepared
from tsdistill.augmentation.application import title
from tsdistill.augmentation.strategy_protocol import Strategy
from tsdistill.data.training_batch import TrainingBatch, TrainingData
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.counted_positions import aligned_labels
from tsdistill.options.option_fields import written
from tsdistill.options.output_options import IGNORED
from tsdistill.options.train_options import TrainOptions
from tsdistill.runtime.forward import placement
from tsdistill.runtime.nests import by_name, moved
from tsdistill.runtime.seeds import mixed_seed

_AUGMENTATION_SEED = 5
"""Stream number of the random numbers of augmentation; unlike those of the loop (6) and of losses (7), so
that no two streams are equal."""


class BatchPreparation:
    """Prepares batches; random numbers depend on seed, epoch, batch and process alone.

    Args:
        options: augmentation, smoothing and seed.
        strategy: the augmentation, prepared; ``None`` for none.
        classes: of the output that labels are for, ``None`` for several or where it holds no class scores.
        needs_labels: whether a loss reads labels.
        process: number of this process.
        student: the model that is trained. Floating inputs get its precision, float32 at least.
    """

    def __init__(
        self,
        options: TrainOptions,
        strategy: Strategy | None,
        classes: int | None,
        needs_labels: bool,
        process: int,
        student: nn.Module,
    ) -> None:
        self._options, self._strategy = options, strategy
        self._classes, self._needs_labels, self._process = classes, needs_labels, process
        self._student = student
        self._precision = torch.promote_types(torch.float32, placement(student)[1])
        self._seen: set[int] = set()

    def __call__(self, batch: TrainingBatch, epoch: int, device: torch.device) -> tuple[Any, Any]:
        """The inputs and labels (class numbers, probabilities or ``None``) on ``device``.

        Class numbers of positions come along without a loss that reads them: ignored ones rule positions out.

        Raises:
            TsdistillError: labels are missing or out of range, or the augmentation fails.
        """
        y = aligned_labels(by_name(self._student, batch.x), batch.y, self._options.ignore_index)
        if self._needs_labels:
            self._check(y, batch.index)
        elif not _of_positions(y) or self._mixes:
            y = None
        spread = self._needs_labels and (self._mixes or self._options.label_smoothing)
        ignored = bool(spread) and isinstance(y, Tensor) and bool((y == self._options.ignore_index).any())
        x = moved(batch.x, device, self._precision, non_blocking=True)
        y = moved(y, device, non_blocking=True)
        if self._strategy is not None:
            if not isinstance(x, Tensor):
                raise TsdistillError(
                    f"the augmentation {self._options.augment} takes one tensor a batch; use "
                    f"{written('augment', 'none')}"
                )
            if self._mixes and y is not None and (ignored or not self._mixable(y)):
                raise TsdistillError(
                    f"the augmentation {title(self._strategy)} mixes samples, and of labels only class "
                    "numbers, one for each sample, can be mixed; leave it out, or give a loss that reads no "
                    "labels"
                )
            numbers = (self._options.seed, epoch, batch.number, self._process, _AUGMENTATION_SEED)
            generator = Generator().manual_seed(mixed_seed(*numbers))
            x, y = augmented(self._strategy, x, y, generator, self._classes)
        if self._options.label_smoothing and self._needs_labels:
            y = self._smoothed(y, ignored)
        return x, y

    @property
    def _mixes(self) -> bool:
        return isinstance(self._strategy, MixesLabels)

    def _mixable(self, y: Any) -> bool:
        return isinstance(y, Tensor) and y.ndim == 1 and not y.is_floating_point() and bool(self._classes)

    def _smoothed(self, y: Any, ignored: bool) -> Tensor:
        """Labels as probabilities.

        Raises:
            TsdistillError: they are not one class number, or the probabilities of classes, for each sample.
        """
        if ignored or not (self._mixable(y) or (isinstance(y, Tensor) and y.ndim == 2 and self._classes)):
            raise TsdistillError(
                "label_smoothing spreads labels of which there is one for each sample, none of them ignored; "
                f"give {written('loss', 'cross-entropy:smoothing=0.1')} for others"
            )
        assert self._classes is not None
        return smoothed(y, self._options.label_smoothing, self._classes)

    def _check(self, y: Any, index: Tensor | None) -> None:
        if y is None:
            raise TsdistillError(
                f"the loss needs labels and the data have none; give {written('loss', 'soft-targets')}"
            )
        if not isinstance(y, Tensor) or y.is_floating_point() or self._classes is None:
            return
        check_range(y, self._classes, index, self._options.ignore_index)
        if len(self._seen) < 2:
            self._seen.update(label for label in y.unique().tolist() if label != self._options.ignore_index)

    @property
    def one_class(self) -> int | None:
        """The only class so far, ``None`` for several or when labels are not read."""
        return next(iter(self._seen)) if len(self._seen) == 1 else None


def check_range(y: Tensor, classes: int, index: Tensor | None = None, ignore_index: int = IGNORED) -> None:
    """Check that labels are classes of the model, or ignored.

    Args:
        y: labels, whole numbers of any shape.
        classes: how many the model has.
        index: int64 ``[N]``, the sample numbers, for the message.
        ignore_index: the label that counts for nothing.

    Raises:
        TsdistillError: one is not; names it and its sample.
    """
    wrong = ((y < 0) | (y >= classes)) & (y != ignore_index)
    if not bool(wrong.any()):
        return
    place = int(wrong.nonzero()[0, 0])
    which = "" if index is None else f" (sample {int(index[place])})"
    raise TsdistillError(
        f"a label is {int(y[wrong][0])}{which} but the model has {classes} classes, 0 to {classes - 1}; "
        "give data of the model's classes"
    )


def check_labels(data: TrainingData, classes: int | None, ignore_index: int = IGNORED) -> None:
    """Check the labels of all samples, where they are known before these are read.

    Args:
        data: the training data.
        classes: how many the model has; ``None`` checks nothing.
        ignore_index: the label that counts for nothing.

    Raises:
        TsdistillError: one is out of range, or there is one class only.
    """
    if data.labels is None or classes is None:
        return
    labels = np.asarray(data.labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iub" or not len(labels):
        return
    numbers = torch.from_numpy(labels.astype(np.int64))
    check_range(numbers, classes, torch.arange(len(labels)), ignore_index)
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
    """Labels as probabilities ``[N, classes]``.

    Args:
        y: class numbers ``[N]``, or probabilities ``[N, classes]``.
        part: share of the probability that is spread evenly over all classes.
        classes: how many there are.
    """
    sure = y.float() if y.is_floating_point() else functional.one_hot(y, classes).float()
    return sure * (1 - part) + part / classes


def strategy_of(
    options: TrainOptions, teacher: Any, batches: Sequence[tuple[Any, Any]], mean: Any, std: Any
) -> Strategy | None:
    """The augmentation of the options, prepared.

    Args:
        options: of the training.
        teacher: the model whose nodes strategies may read; ``None`` without one.
        batches: pairs ``(x, y)`` to prepare the strategy on.
        mean: per-channel mean that inputs were normalised with; ``None`` where it is not known.
        std: per-channel standard deviation, likewise.

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
        generator=Generator().manual_seed(mixed_seed(options.seed, _AUGMENTATION_SEED)),
        mean=mean,
        std=std,
    )
    return prepared(chained([opened(part) for part in parts], "+".join(parts)), setting)


def _of_positions(y: Any) -> bool:
    """Whether labels are class numbers of the positions of samples; or labels by the names of outputs."""
    if isinstance(y, Mapping):
        return any(_of_positions(each) for each in y.values())
    return isinstance(y, Tensor) and y.ndim > 1 and not y.is_floating_point()
