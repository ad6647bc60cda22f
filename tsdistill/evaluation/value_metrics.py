"""Metrics of models whose outputs are values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.evaluation.metric import OUTPUTS, POSITIONS, RunningMean, labels_given, reference_given
from tsdistill.evaluation.named_outputs import named_outputs


class _Error(RunningMean):
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    wants: ClassVar[str] = POSITIONS
    higher_is_better: ClassVar[bool] = False
    name: ClassVar[str]

    def update(self, outputs: Tensor, labels: Tensor | None, reference_outputs: Any = None) -> None:  # noqa: ARG002
        """Add one batch of values.

        Args:
            outputs: values of the model.
            labels: their labels, of the same shape apart from dimensions of size 1.
            reference_outputs: unused.

        Raises:
            TsdistillError: labels are missing or of another shape.
        """
        labels = labels_given(labels, self.name)
        if _shape(labels) != _shape(outputs) or labels.shape[:1] != outputs.shape[:1]:
            raise TsdistillError(
                f"{self.name} needs a label for each output, but labels are {tuple(labels.shape)} and outputs"
                f" {tuple(outputs.shape)}; leave it out or reshape the labels"
            )
        errors = outputs.double().flatten() - labels.to(outputs.device).double().flatten()
        self._add(self._total_of(errors), errors.numel())

    def _total_of(self, errors: Tensor) -> float:
        raise NotImplementedError


class MeanSquaredError(_Error):
    """Mean squared difference of outputs and labels, over all values."""

    name: ClassVar[str] = "mse"

    def _total_of(self, errors: Tensor) -> float:
        return float(errors.square().sum())


class MeanAbsoluteError(_Error):
    """Mean absolute difference of outputs and labels, over all values."""

    name: ClassVar[str] = "mae"

    def _total_of(self, errors: Tensor) -> float:
        return float(errors.abs().sum())


class OutputSquaredError:
    """Squared error against the reference's outputs, relative to how much those vary; needs no labels.

    With the reference's values r, of mean r̄ over all values of a tensor, and the model's values y:
    Σ (y − r)² / Σ (r − r̄)². 0: the same outputs; 1: no better than a constant. Of outputs with several
    floating tensors it is the mean over the tensors.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"reference"})
    wants: ClassVar[str] = OUTPUTS
    higher_is_better: ClassVar[bool] = False

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}

    def update(self, outputs: Any, labels: Any, reference_outputs: Any) -> None:  # noqa: ARG002
        """Add one batch.

        Args:
            outputs: outputs of the model: rows by name, or the output as the model returns it.
            labels: unused.
            reference_outputs: outputs of the reference model in the same form.

        Raises:
            TsdistillError: there is no reference, or the outputs differ in their tensors or have none.
        """
        reference = _tensors(reference_given(reference_outputs, "output_mse"))
        model_tensors = _tensors(outputs)
        if not model_tensors or [(n, t.shape) for n, t in model_tensors] != [
            (n, t.shape) for n, t in reference
        ]:
            raise TsdistillError(
                f"output_mse needs outputs of one shape, but the model gives"
                f" {_shapes_text(model_tensors)} and the reference {_shapes_text(reference)}"
            )
        for (name, y), (_, r) in zip(model_tensors, reference, strict=True):
            self._sums.setdefault(name, _Sums()).update(y.double(), r.to(y.device).double())

    def compute(self) -> float:
        """The relative error over all batches.

        Raises:
            TsdistillError: no batch was added.
        """
        sums = [each for each in self._sums.values() if each.count]
        if not sums:
            raise TsdistillError("there were no samples to evaluate on; give data that has some")
        return sum(each.relative() for each in sums) / len(sums)


class _Sums:
    """Squared errors and the spread of the reference; its values are shifted by the first one."""

    def __init__(self) -> None:
        self.count = 0
        self._shift = self._error = self._sum = self._squares = 0.0

    def update(self, y: Tensor, r: Tensor) -> None:
        if not r.numel():
            return
        if not self.count:
            self._shift = float(r.mean())
        shifted = r - self._shift
        self.count += r.numel()
        self._error += float((y - r).square().sum())
        self._sum += float(shifted.sum())
        self._squares += float(shifted.square().sum())

    def relative(self) -> float:
        spread = self._squares - self._sum**2 / self.count
        if self._error == 0:
            return 0.0
        return self._error / spread if spread > 0 else math.inf


def _tensors(output: Any) -> list[tuple[str, Tensor]]:
    """The outputs with their names; of a mapping for each sample those of all samples."""
    if isinstance(output, (tuple, list)) and output and all(isinstance(item, Mapping) for item in output):
        return [pair for item in output for pair in named_outputs(item).items()]
    return list(named_outputs(output).items())


def _shape(values: Tensor) -> list[int]:
    return [size for size in values.shape[1:] if size != 1]


def _shapes_text(named_tensors: Sequence[tuple[str, Tensor]]) -> str:
    return (
        ", ".join(f"{name} {tuple(tensor.shape)}".lstrip() for name, tensor in named_tensors)
        or "no floating tensor"
    )
