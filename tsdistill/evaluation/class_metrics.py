"""Metrics of classifiers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.evaluation.metric import POSITIONS, RunningMean, labels_given, reference_given
from tsdistill.evaluation.output_layout import layout_of
from tsdistill.options.output_options import CLASSES


def class_scores(outputs: Tensor, metric: str) -> Tensor:
    """Outputs as ``(predictions, classes)``: rows as they are, others as ``output_layout`` says.

    Raises:
        TsdistillError: there are no two classes to choose from.
    """
    scores = layout_of(outputs, kind=CLASSES).rows(outputs)
    if scores.shape[-1] < 2:
        raise TsdistillError(
            f"{metric} needs scores of two or more classes, not an output of shape {tuple(outputs.shape)}"
        )
    return scores.flatten(0, -2).float()


_SCORES = 2**22
"""Scores that are looked at together: 32 MB in double precision. A batch of text has a hundred million, of
which metrics made copies."""


def row_blocks(rows: Tensor) -> Iterator[slice]:
    """Parts of ``rows [positions, classes]`` that have at most `_SCORES` values (one row at least)."""
    step = max(1, _SCORES // max(1, rows[:1].numel()))
    for start in range(0, len(rows), step):
        yield slice(start, min(start + step, len(rows)))


class _TopK(RunningMean):
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    wants: ClassVar[str] = POSITIONS
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "%"
    k: ClassVar[int] = 1

    def update(self, outputs: Tensor, labels: Tensor | None, reference_outputs: Tensor | None = None) -> None:  # noqa: ARG002
        """Add the counted positions of one batch.

        Args:
            outputs: class scores ``[positions, classes]`` of the model.
            labels: class numbers ``[positions]``.
            reference_outputs: unused.

        Raises:
            TsdistillError: labels are missing, are no class numbers or do not fit the scores.
        """
        name = f"top{self.k}"
        labels = labels_given(labels, name)
        scores = class_scores(outputs, name)
        if labels.is_floating_point() or labels.numel() != len(scores):
            raise TsdistillError(
                f"{name} needs one class number for each prediction, but labels are {tuple(labels.shape)} of"
                f" {str(labels.dtype).removeprefix('torch.')} and outputs {tuple(outputs.shape)}"
            )
        if not labels.numel():
            return
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
    """Percent of predictions (samples, or positions of them) whose label has the highest score."""


class Top5(_TopK):
    """Percent of predictions (samples, or positions of them) whose label is among the five highest scores."""

    k: ClassVar[int] = 5


class _Comparing(RunningMean):
    """Mean over predictions of a figure of the model's and the reference's class scores."""

    needs: ClassVar[frozenset[str]] = frozenset({"reference"})
    wants: ClassVar[str] = POSITIONS
    name: ClassVar[str]
    of_itself: ClassVar[float]

    def update(self, outputs: Tensor, labels: Tensor | None, reference_outputs: Tensor | None) -> None:  # noqa: ARG002
        """Add the counted positions of one batch.

        Args:
            outputs: class scores ``[positions, classes]`` of the model.
            labels: unused.
            reference_outputs: class scores of the reference model, of the same shape.

        Raises:
            TsdistillError: they differ in shape or have no classes.
        """
        reference: Tensor = reference_given(reference_outputs, self.name)
        if reference.shape != outputs.shape:
            raise TsdistillError(
                f"{self.name} needs outputs of one shape, but the model gives {tuple(outputs.shape)} and the "
                f"reference {tuple(reference.shape)}"
            )
        if reference is outputs and outputs.shape[-1] > 1:  # the reference beside itself
            self._add(self.of_itself * len(outputs), len(outputs))
            return
        reference = reference.to(outputs.device)
        parts = row_blocks(outputs) if outputs.ndim == 2 else [slice(None)]
        for part in parts:
            scores = class_scores(outputs[part], self.name)
            reference_scores = class_scores(reference[part], self.name)
            self._add(float(self._figures(scores, reference_scores).sum()), len(scores))

    def _figures(self, scores: Tensor, reference_scores: Tensor) -> Tensor:
        """The figure of each prediction ``[positions]``."""
        raise NotImplementedError


class Agreement(_Comparing):
    """Percent of predictions that equal those of the reference."""

    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "%"
    name: ClassVar[str] = "agreement"
    of_itself: ClassVar[float] = 100.0

    def _figures(self, scores: Tensor, reference_scores: Tensor) -> Tensor:
        return 100 * (scores.argmax(1) == reference_scores.argmax(1))


class KullbackLeibler(_Comparing):
    """Mean KL(reference || model) of the class probabilities (of the softmax), in nats per prediction."""

    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "nats"
    name: ClassVar[str] = "kl"
    of_itself: ClassVar[float] = 0.0

    def _figures(self, scores: Tensor, reference_scores: Tensor) -> Tensor:
        log_model, log_reference = (
            torch.log_softmax(each.double(), 1) for each in (scores, reference_scores)
        )
        return (log_reference.exp() * (log_reference - log_model)).sum(1).clamp_min(0)
