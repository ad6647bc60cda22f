"""Figures that say how good a model is, registered as a plugin's are.

A metric is a class without constructor arguments. ``needs`` names what it is given besides the model's
outputs: ``"labels"``, ``"reference"`` (the outputs of another model on the same samples). ``update`` takes
one batch of them on one device, ``compute`` gives the figure over all batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.plugins import hookimpl


class Metric(Protocol):
    """What ``register_evaluation_metrics`` takes (the class, not an instance)."""

    needs: ClassVar[frozenset[str]]

    def update(self, outputs: Tensor, labels: Tensor | None, reference_outputs: Tensor | None) -> None:
        """Take one batch: outputs ``(batch, classes, ...)``, labels ``(batch,)``."""

    def compute(self) -> float:
        """The figure over all batches."""


def class_scores(outputs: Tensor, metric: str) -> Tensor:
    """Outputs as ``(predictions, classes)``.

    Classes lie on dimension 1 of ``(batch, classes)`` and of maps ``(batch, classes, height, width[,
    depth])``, on the last one of sequences ``(batch, length, classes)``.

    Raises:
        TsdistillError: there are no two classes to choose from.
    """
    if outputs.ndim in (4, 5):
        outputs = outputs.movedim(1, -1)
    if outputs.ndim not in (2, 3, 4, 5) or outputs.shape[-1] < 2:
        raise TsdistillError(
            f"{metric} needs scores of two or more classes, not an output of shape {tuple(outputs.shape)}"
        )
    return outputs.flatten(0, -2).float()


class _Mean:
    """A running mean in double precision."""

    def __init__(self) -> None:
        self._total = 0.0
        self._count = 0

    def _add(self, total: float, count: int) -> None:
        self._total += total
        self._count += count

    def compute(self) -> float:
        """The mean over everything so far.

        Raises:
            TsdistillError: there was nothing.
        """
        if not self._count:
            raise TsdistillError("there were no samples to evaluate on; give data that has some")
        return self._total / self._count


class _TopK(_Mean):
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    k: ClassVar[int] = 1

    def update(self, outputs: Tensor, labels: Tensor | None, reference_outputs: Tensor | None = None) -> None:
        """Take one batch of scores ``(batch, classes)`` and labels ``(batch,)``.

        Raises:
            TsdistillError: labels are missing, are no class numbers or do not fit the scores.
        """
        name = f"top{self.k}"
        if labels is None:
            raise TsdistillError(
                f"{name} needs labels but the data have none; leave it out or give labelled data"
            )
        scores = class_scores(outputs, name)
        if labels.is_floating_point() or labels.numel() != len(scores):
            raise TsdistillError(
                f"{name} needs one class number for each prediction, but labels are {tuple(labels.shape)} of"
                f" {str(labels.dtype).removeprefix('torch.')} and outputs {tuple(outputs.shape)}"
            )
        labels = labels.flatten().to(scores.device).long()
        classes = scores.shape[1]
        if classes < self.k:
            raise TsdistillError(
                f"{name} needs {self.k} classes or more, but the model has {classes}; leave it out"
            )
        if int(labels.max()) >= classes or int(labels.min()) < 0:
            raise TsdistillError(
                f"labels are {int(labels.min())}-{int(labels.max())} but the model has {classes} classes;"
                " give data labelled as the model was trained"
            )
        best = scores.topk(self.k, 1).indices
        self._add(float((best == labels[:, None]).any(1).sum()) * 100, len(labels))


class Top1(_TopK):
    """Percent of samples whose label has the highest score."""


class Top5(_TopK):
    """Percent of samples whose label is among the five highest scores."""

    k: ClassVar[int] = 5


def _pair(outputs: Tensor, reference: Tensor | None, name: str) -> tuple[Tensor, Tensor]:
    if reference is None:
        raise TsdistillError(f"{name} needs a reference model to compare with; give reference=")
    if reference.shape != outputs.shape:
        raise TsdistillError(
            f"{name} needs outputs of one shape, but the model gives {tuple(outputs.shape)} and the reference"
            f" {tuple(reference.shape)}"
        )
    return class_scores(outputs, name), class_scores(reference.to(outputs.device), name)


class Agreement(_Mean):
    """Percent of predictions that are the reference's."""

    needs: ClassVar[frozenset[str]] = frozenset({"reference"})

    def update(self, outputs: Tensor, labels: Tensor | None, reference_outputs: Tensor | None) -> None:
        """Take one batch of scores of both models.

        Raises:
            TsdistillError: they differ in shape or have no classes.
        """
        mine, theirs = _pair(outputs, reference_outputs, "agreement")
        self._add(float((mine.argmax(1) == theirs.argmax(1)).sum()) * 100, len(mine))


class KullbackLeibler(_Mean):
    """Mean KL(reference || model) of the class probabilities (softmax of the scores), in nats."""

    needs: ClassVar[frozenset[str]] = frozenset({"reference"})

    def update(self, outputs: Tensor, labels: Tensor | None, reference_outputs: Tensor | None) -> None:
        """Take one batch of scores of both models.

        Raises:
            TsdistillError: they differ in shape or have no classes.
        """
        mine, theirs = _pair(outputs, reference_outputs, "kl")
        log_mine, log_theirs = (torch.log_softmax(scores.double(), 1) for scores in (mine, theirs))
        divergence = (log_theirs.exp() * (log_theirs - log_mine)).sum(1).clamp_min(0)
        self._add(float(divergence.sum()), len(mine))


@hookimpl
def register_evaluation_metrics(register: Callable[[str, type[Metric]], None]) -> None:
    """Register top1, top5, agreement and kl."""
    register("top1", Top1)
    register("top5", Top5)
    register("agreement", Agreement)
    register("kl", KullbackLeibler)
